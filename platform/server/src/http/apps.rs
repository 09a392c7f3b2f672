//! Apps.

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use berth_api::{AppView, ChangeApp, CreateApp, Page, Timestamp};
use berth_model::App;
use berth_model::plan::Change;
use berth_model::principal::Verb;

use super::call::Call;
use super::document::Problems;
use super::extract::{Expected, Json as Body, Path, Query, field};
use super::page::PageQuery;
use super::problem::ApiError;

/// Apps by name.
#[utoipa::path(get, path = "/v1/apps", tag = "apps", params(PageQuery), responses(
    (status = 200, body = Page<AppView>), Problems,
))]
pub(super) async fn list_apps(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<AppView>>, ApiError> {
    let visible = call.listed(Verb::Read)?;
    let wanted = query.wanted()?;
    let rows = call.store().apps(visible, wanted.after(), wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |app| app.name.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for app in &page.items {
        items.push(view(&call, app).await?);
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

/// Create an app.
#[utoipa::path(post, path = "/v1/apps", tag = "apps", request_body = CreateApp, responses(
    (status = 201, body = AppView), Problems,
))]
pub(super) async fn create_app(
    call: Call,
    Body(body): Body<CreateApp>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<AppView>), ApiError> {
    let team = call.team(body.team.as_deref(), Verb::CreateApp).await?;
    let change = Change::Create { name: field("/name", &body.name)?, team: team.id };
    let by = call.by();
    call.actions().judge(None, &change, &by).await?;
    let done = call.store().change(None, &change, None, &by).await?;
    call.actions().wake(done.app.id);
    call.routed().await;
    let location = [(header::LOCATION, format!("/v1/apps/{}", done.app.name))];
    Ok((StatusCode::CREATED, location, Json(view(&call, &done.app).await?)))
}

/// An app.
#[utoipa::path(get, path = "/v1/apps/{app}", tag = "apps", params(("app" = String, Path)), responses(
    (status = 200, body = AppView), Problems,
))]
pub(super) async fn show_app(
    call: Call,
    Path(app): Path<String>,
) -> Result<Json<AppView>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    Ok(Json(view(&call, &app).await?))
}

/// Rename an app, or choose its deploy branch. `If-Match` takes the generation it must have.
#[utoipa::path(patch, path = "/v1/apps/{app}", tag = "apps", params(("app" = String, Path)),
    request_body = ChangeApp, responses((status = 200, body = AppView), Problems))]
pub(super) async fn change_app(
    call: Call,
    Path(app): Path<String>,
    Expected(mut expected): Expected,
    Body(body): Body<ChangeApp>,
) -> Result<Json<AppView>, ApiError> {
    let verb = if body.name.is_some() { Verb::DestroyApp } else { Verb::Change };
    let mut app = call.app(&app, verb).await?;
    let mut changes = Vec::new();
    changes.extend(body.deploy_branch.map(Change::SetDeployBranch));
    if let Some(name) = &body.name {
        changes.push(Change::Rename(field("/name", name)?));
    }
    // Neither is made when one of them cannot be.
    for change in &changes {
        call.store().plan(Some(app.id), change).await?;
    }
    for change in &changes {
        app = call.change(&app, change, expected.take()).await?.app;
    }
    if body.name.is_some() {
        call.routed().await;
    }
    Ok(Json(view(&call, &app).await?))
}

/// What is destroyed with an app.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DestroyQuery {
    /// Its volumes too; without this an app that has volumes is not destroyed.
    #[serde(default)]
    volumes: bool,
}

/// Destroy an app with everything that belongs to it.
#[utoipa::path(delete, path = "/v1/apps/{app}", tag = "apps", params(("app" = String, Path), DestroyQuery),
    responses((status = 204, description = "It is gone."), Problems))]
pub(super) async fn destroy_app(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<DestroyQuery>,
    Expected(expected): Expected,
) -> Result<StatusCode, ApiError> {
    let app = call.app(&app, Verb::DestroyApp).await?;
    let change = if query.volumes { Change::DestroyWithVolumes } else { Change::Destroy };
    let done = call.change(&app, &change, expected).await?;
    call.actions().clean_up(done.app);
    call.routed().await;
    Ok(StatusCode::NO_CONTENT)
}

/// An app as the API shows it.
pub(super) async fn view(call: &Call, app: &App) -> Result<AppView, ApiError> {
    let team = call.team_of(app.team).await?;
    let release = match app.current_release {
        Some(id) => call.store().release(id).await?,
        None => None,
    };
    let mut hosts = match app.settings.addon {
        Some(_) => Vec::new(),
        None => vec![default_host(call, app)],
    };
    hosts.extend(call.store().domains(app.id).await?.into_iter().map(|row| row.name.to_string()));
    let port = call.platform.http.port();
    let urls =
        hosts
            .iter()
            .filter(|host| !host.starts_with("*."))
            .map(|host| {
                if port == 80 {
                    format!("http://{host}/")
                } else {
                    format!("http://{host}:{port}/")
                }
            })
            .collect();
    let scale = match &release {
        Some(release) => release
            .manifest
            .processes
            .keys()
            .map(|process| {
                let fixed = release.manifest.formation.get(process).copied();
                (process.to_string(), fixed.unwrap_or_else(|| app.settings.wanted(process)))
            })
            .collect(),
        None => app.settings.scale.iter().map(|(name, count)| (name.to_string(), *count)).collect(),
    };
    Ok(AppView {
        id: app.id.to_string(),
        name: app.name.to_string(),
        team: team.name.to_string(),
        urls,
        git_http: format!("http://{}/git/{}.git", call.called_as, app.name),
        git_ssh: format!(
            "ssh://git@{}:{}/{}",
            call.called_as.host(),
            call.platform.ssh.port(),
            app.name
        ),
        release: release.map(|release| release.number),
        deploy_branch: app.settings.deploy_branch.clone(),
        scale,
        stopped: app.settings.stopped,
        generation: app.generation,
        created_at: Timestamp(app.created_at_ms),
    })
}

/// The host name that follows from the app's name.
pub(super) fn default_host(call: &Call, app: &App) -> String {
    format!("{}.{}", app.name, call.store().domain())
}
