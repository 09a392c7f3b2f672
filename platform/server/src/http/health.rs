//! How apps do: one line each, so that a list of them needs no call for every app.

use std::collections::BTreeMap;

use axum::Json;
use berth_api::{AppHealth, HealthState, Page};
use berth_model::principal::Verb;
use berth_model::{InstanceRole, InstanceState};
use berth_store::Snapshot;

use super::call::Call;
use super::document::Problems;
use super::extract::Query;
use super::page::PageQuery;
use super::problem::ApiError;

/// How apps do, by name, as `GET /v1/apps` lists them.
#[utoipa::path(get, path = "/v1/app-health", tag = "apps", params(PageQuery),
    responses((status = 200, body = Page<AppHealth>), Problems))]
pub(super) async fn list_app_health(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<AppHealth>>, ApiError> {
    let visible = call.listed(Verb::Read)?;
    let wanted = query.wanted()?;
    let rows = call.store().apps(visible, wanted.after(), wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |app| app.name.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for app in &page.items {
        // One that was destroyed in this moment has no line.
        if let Some(snapshot) = call.store().snapshot(app.id).await? {
            items.push(health(&snapshot));
        }
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

fn health(snapshot: &Snapshot) -> AppHealth {
    let Snapshot { app, current, deployments, instances, .. } = snapshot;
    let mut asked = BTreeMap::new();
    if let Some(release) = current
        && !app.settings.stopped
    {
        for process in release.manifest.processes.keys() {
            let fixed = release.manifest.formation.get(process).copied();
            asked.insert(process, u32::from(fixed.unwrap_or_else(|| app.settings.wanted(process))));
        }
    }
    let mut ready = 0;
    for (process, count) in &asked {
        let there = instances.iter().filter(|row| {
            row.role == InstanceRole::Instance
                && row.process == **process
                && row.state == InstanceState::Ready
                && row.answering.is_some()
        });
        // Beside an old instance its successor may be ready already.
        ready += u32::try_from(there.count()).unwrap_or(u32::MAX).min(*count);
    }
    let wanted = asked.values().sum();
    AppHealth {
        app: app.name.to_string(),
        health: match current {
            None if deployments.is_empty() => HealthState::Empty,
            None => HealthState::Deploying,
            Some(_) => state(wanted, ready),
        },
        wanted,
        ready,
        deployment: deployments.last().map(|(row, _)| row.state.as_str().to_owned()),
    }
}

fn state(wanted: u32, ready: u32) -> HealthState {
    match (wanted, ready) {
        (0, _) => HealthState::Stopped,
        (_, 0) => HealthState::Down,
        (wanted, ready) if ready < wanted => HealthState::Degraded,
        _ => HealthState::Healthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_as_well_as_its_instances() {
        for (wanted, ready, expected) in [
            (0, 0, HealthState::Stopped),
            (2, 0, HealthState::Down),
            (2, 1, HealthState::Degraded),
            (2, 2, HealthState::Healthy),
        ] {
            assert_eq!(state(wanted, ready), expected, "{wanted} {ready}");
        }
    }
}
