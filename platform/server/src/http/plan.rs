//! What a change would do.

use std::collections::BTreeSet;

use axum::Json;
use berth_api::{PlanRequest, PlanView};
use berth_model::plan::{Change, Config, ConfigName, Secret};
use berth_model::principal::Verb;
use berth_store::By;

use super::actions::ActionError;
use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, field};
use super::problem::ApiError;
use super::processes::counts;

/// Plan a change of an app and make nothing of it.
#[utoipa::path(post, path = "/v1/apps/{app}/plan", tag = "apps", params(("app" = String, Path)),
    request_body = PlanRequest, responses((status = 200, body = PlanView), Problems))]
pub(super) async fn plan_change(
    call: Call,
    Path(app): Path<String>,
    Body(body): Body<PlanRequest>,
) -> Result<Json<PlanView>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let change = match body {
        PlanRequest::Scale { processes } => Change::Scale(counts(&processes)?),
        PlanRequest::Config { set, unset } => Change::Configure {
            // Values are not sent to be planned: each is taken to be another one.
            set: names(&set, "/set")?
                .into_iter()
                .map(|name| (name, Secret::new("(another value)")))
                .collect::<Config>(),
            unset: names(&unset, "/unset")?,
            release: true,
        },
        PlanRequest::Rollback { release } => Change::Rollback { to: Some(release) },
        PlanRequest::Destroy {} => Change::Destroy,
    };
    let plan = call.store().plan(Some(app.id), &change).await?;
    // As it would be judged without an override.
    let by = By { overrides: None, ..call.by() };
    let denied = match call.actions().judge(Some(&app), &change, &by).await {
        Ok(()) => None,
        Err(ActionError::Refused(denial)) => Some(denial),
        Err(error) => return Err(error.into()),
    };
    Ok(Json(PlanView {
        version: plan.version,
        generation: plan.generation,
        changes: plan.changes.iter().map(ToString::to_string).collect(),
        denied,
    }))
}

fn names(texts: &[String], pointer: &str) -> Result<BTreeSet<ConfigName>, ApiError> {
    let parse = |(index, text): (usize, &String)| field(&format!("{pointer}/{index}"), text);
    texts.iter().enumerate().map(parse).collect()
}
