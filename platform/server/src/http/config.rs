//! An app's configuration: its environment.

use std::collections::BTreeSet;

use axum::Json;
use berth_api::{ChangeConfig, ConfigChanged, ConfigVersionView, ConfigView, Page, Timestamp};
use berth_model::plan::{Change, Config, Secret};
use berth_model::principal::Verb;
use serde::Deserialize;
use utoipa::IntoParams;

use super::call::Call;
use super::document::Problems;
use super::extract::{Expected, Json as Body, Path, Query, escaped, field};
use super::page::{self, PageQuery};
use super::problem::ApiError;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConfigQuery {
    /// Only the variable of this name.
    name: Option<String>,
}

/// Names and values. It is recorded who was shown which; versions have the names alone.
#[utoipa::path(get, path = "/v1/apps/{app}/config", tag = "config",
    params(("app" = String, Path), ConfigQuery),
    responses((status = 200, body = ConfigView), Problems))]
pub(super) async fn show_config(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<ConfigQuery>,
) -> Result<Json<ConfigView>, ApiError> {
    let app = call.app(&app, Verb::ReadConfig).await?;
    let only = query.name.map(|name| field("name", &name)).transpose()?;
    let (version, values) = call.store().reveal_config(&app, only.as_ref(), &call.by()).await?;
    let variables =
        values.iter().map(|(name, value)| (name.to_string(), value.reveal().to_owned())).collect();
    Ok(Json(ConfigView { version, variables }))
}

/// Set and remove variables, all at once. A new release runs with them, unless `no_restart`.
#[utoipa::path(patch, path = "/v1/apps/{app}/config", tag = "config", params(("app" = String, Path)),
    request_body = ChangeConfig, responses((status = 200, body = ConfigChanged), Problems))]
pub(super) async fn change_config(
    call: Call,
    Path(app): Path<String>,
    Expected(expected): Expected,
    Body(body): Body<ChangeConfig>,
) -> Result<Json<ConfigChanged>, ApiError> {
    let app = call.app(&app, Verb::Change).await?;
    let (mut set, mut unset) = (Config::new(), BTreeSet::new());
    for (name, value) in body.variables {
        let parsed = field(&format!("/variables/{}", escaped(&name)), &name)?;
        match value {
            Some(value) => drop(set.insert(parsed, Secret::new(value))),
            None => drop(unset.insert(parsed)),
        }
    }
    let change = Change::Configure { set, unset, release: !body.no_restart };
    let done = call.change(&app, &change, expected).await?;
    Ok(Json(ConfigChanged {
        version: call.store().config_version(app.id).await?,
        deployment: done.deployment.map(|deployment| deployment.id.to_string()),
    }))
}

/// Versions of the configuration, newest first, without values.
#[utoipa::path(get, path = "/v1/apps/{app}/config/versions", tag = "config",
    params(("app" = String, Path), PageQuery), responses((status = 200, body = Page<ConfigVersionView>), Problems))]
pub(super) async fn list_config_versions(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ConfigVersionView>>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let wanted = query.wanted()?;
    let before = wanted.after_as()?;
    let current = call.store().config_version(app.id).await?;
    let rows = call.store().config_versions(app.id, before, wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |row| row.version.to_string());
    Ok(Json(page::map(page, |row| ConfigVersionView {
        version: row.version,
        current: row.version == current,
        names: row.names.iter().map(ToString::to_string).collect(),
        actor: row.actor,
        created_at: Timestamp(row.created_at_ms),
    })))
}
