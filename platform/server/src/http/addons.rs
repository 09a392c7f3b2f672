//! Add-ons.

mod actions;
mod backups;

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use berth_api::{AddonView, AttachAddon, AttachmentChanged, CreateAddon, Page, Timestamp};
use berth_model::addon::{self, Addon};
use berth_model::plan::{Change, Config, ConfigName, Effect, Secret};
use berth_model::principal::Verb;
use berth_model::{App, InstanceRole, InstanceState};

use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query, field};
use super::page::PageQuery;
use super::problem::ApiError;

pub use actions::{AddonActions, NewAddonAsk};
pub(super) use backups::*;

/// The add-ons by name.
#[utoipa::path(get, path = "/v1/addons", tag = "addons", params(PageQuery), responses(
    (status = 200, body = Page<AddonView>), Problems))]
pub(super) async fn list_addons(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<AddonView>>, ApiError> {
    let visible = call.listed(Verb::Read)?;
    let wanted = query.wanted()?;
    let rows = call.store().addons(visible, wanted.after(), wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |app| app.name.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for app in &page.items {
        items.push(view(&call, app, made_of(app)?).await?);
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

/// Make an add-on. Answers when its image is made, which takes some minutes the first time; its
/// deployment goes on.
#[utoipa::path(post, path = "/v1/addons", tag = "addons", request_body = CreateAddon,
    responses((status = 201, body = AddonView), Problems))]
pub(super) async fn create_addon(
    call: Call,
    Body(body): Body<CreateAddon>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<AddonView>), ApiError> {
    let team = call.team(body.team.as_deref(), Verb::CreateApp).await?;
    let options = body.options.unwrap_or_else(|| serde_json::json!({}));
    let ask =
        NewAddonAsk { team: team.id, kind: body.kind, name: field("/name", &body.name)?, options };
    let (app, deployment) = call.actions().addons().create(ask, call.by()).await?;
    let view = view(&call, &app, made_of(&app)?).await?;
    let view = AddonView { deployment: Some(deployment.id.to_string()), ..view };
    let location = [(header::LOCATION, format!("/v1/addons/{}", app.name))];
    Ok((StatusCode::CREATED, location, Json(view)))
}

/// An add-on.
#[utoipa::path(get, path = "/v1/addons/{addon}", tag = "addons", params(("addon" = String, Path)),
    responses((status = 200, body = AddonView), Problems))]
pub(super) async fn show_addon(
    call: Call,
    Path(addon): Path<String>,
) -> Result<Json<AddonView>, ApiError> {
    let app = find(&call, &addon, Verb::Read).await?;
    Ok(Json(view(&call, &app, made_of(&app)?).await?))
}

/// Remove an add-on, what its volumes hold, and its backups. Refused while an app is attached.
#[utoipa::path(delete, path = "/v1/addons/{addon}", tag = "addons", params(("addon" = String, Path)),
    responses((status = 204, description = "It is gone, and all that it held."), Problems))]
pub(super) async fn remove_addon(
    call: Call,
    Path(addon): Path<String>,
) -> Result<StatusCode, ApiError> {
    let app = find(&call, &addon, Verb::DestroyApp).await?;
    let done = call.change(&app, &Change::RemoveAddon, None).await?;
    call.actions().clean_up(done.app);
    call.routed().await;
    Ok(StatusCode::NO_CONTENT)
}

/// Attach an add-on to an app: a new release of it has the add-on's variables, and its instances
/// reach the add-on's port.
#[utoipa::path(post, path = "/v1/addons/{addon}/attachments", tag = "addons",
    params(("addon" = String, Path)), request_body = AttachAddon,
    responses((status = 200, body = AttachmentChanged), Problems))]
pub(super) async fn attach_addon(
    call: Call,
    Path(addon): Path<String>,
    Body(body): Body<AttachAddon>,
) -> Result<Json<AttachmentChanged>, ApiError> {
    // The app learns the add-on's secrets.
    let addon = find(&call, &addon, Verb::ReadConfig).await?;
    let app = call.app(&body.app, Verb::Change).await?;
    if app.team != addon.team {
        let detail = format!("{} and {} are of different teams", addon.name, app.name);
        return Err(ApiError::conflict(detail));
    }
    let made_of = made_of(&addon)?;
    let set = exports(&call, &addon, made_of, body.prefix.as_deref()).await?;
    let (id, name, port) = (addon.id, addon.name.clone(), made_of.port);
    let done = call.change(&app, &Change::Attach { addon: id, name, port, set }, None).await?;
    let variables = done.plan.changes.iter().filter_map(|effect| match effect {
        Effect::SetConfig { name, .. } => Some(name.to_string()),
        _ => None,
    });
    Ok(Json(AttachmentChanged {
        app: app.name.to_string(),
        variables: variables.collect(),
        deployment: done.deployment.map(|deployment| deployment.id.to_string()),
    }))
}

/// Detach an add-on from an app: a new release of it is without the variables, and its instances
/// reach the add-on no more. What the add-on holds stays.
#[utoipa::path(delete, path = "/v1/addons/{addon}/attachments/{app}", tag = "addons",
    params(("addon" = String, Path), ("app" = String, Path)),
    responses((status = 200, body = AttachmentChanged), Problems))]
pub(super) async fn detach_addon(
    call: Call,
    Path((addon, app)): Path<(String, String)>,
) -> Result<Json<AttachmentChanged>, ApiError> {
    let addon = find(&call, &addon, Verb::Read).await?;
    let app = call.app(&app, Verb::Change).await?;
    let change = Change::Detach { addon: addon.id, name: addon.name };
    let done = call.change(&app, &change, None).await?;
    let variables = done.plan.changes.iter().filter_map(|effect| match effect {
        Effect::UnsetConfig { name } => Some(name.to_string()),
        _ => None,
    });
    Ok(Json(AttachmentChanged {
        app: app.name.to_string(),
        variables: variables.collect(),
        deployment: done.deployment.map(|deployment| deployment.id.to_string()),
    }))
}

/// The add-on of this name, if the caller may do this to it.
async fn find(call: &Call, name: &str, verb: Verb) -> Result<App, ApiError> {
    let absent = || ApiError::not_found("add-on", name);
    let parsed = name.parse().map_err(|_| absent())?;
    let app = call.store().app_by_name(&parsed).await?.ok_or_else(absent)?;
    if app.settings.addon.is_none() {
        return Err(absent());
    }
    call.may_app(verb, &app, absent)?;
    Ok(app)
}

fn made_of(app: &App) -> Result<&Addon, ApiError> {
    app.settings.addon.as_ref().ok_or_else(|| ApiError::not_found("add-on", app.name.as_str()))
}

/// What an app that is attached is told.
async fn exports(
    call: &Call,
    app: &App,
    addon: &Addon,
    prefix: Option<&str>,
) -> Result<Config, ApiError> {
    let secrets = call.store().config(app.id).await?.1;
    let host = addon::host(&app.name);
    let mut set = Config::new();
    for (name, template) in &addon.exports {
        let name: ConfigName = match prefix {
            Some(prefix) => field("/prefix", &format!("{prefix}_{name}"))?,
            None => name.clone(),
        };
        let value = addon::fill(template, &host, &secrets);
        let value = value.map_err(|why| ApiError::conflict(format!("{name}: {why}")))?;
        set.insert(name, Secret::new(value));
    }
    Ok(set)
}

async fn view(call: &Call, app: &App, addon: &Addon) -> Result<AddonView, ApiError> {
    let team = call.team_of(app.team).await?;
    let instances = call.store().live_instances(app.id).await?;
    let ready = instances.iter().any(|row| {
        row.role == InstanceRole::Instance
            && row.state == InstanceState::Ready
            && row.answering.is_some()
    });
    let state = match app.current_release {
        _ if app.settings.stopped => "stopped",
        _ if ready => "ready",
        Some(_) => "starting",
        None if instances.is_empty() => "none",
        None => "starting",
    };
    let attached = call.store().attached(app.id).await?;
    Ok(AddonView {
        id: app.id.to_string(),
        name: app.name.to_string(),
        team: team.name.to_string(),
        kind: addon.extension.to_string(),
        options: addon.options.clone(),
        host: addon::host(&app.name),
        port: addon.port,
        state: state.to_owned(),
        exports: addon.exports.iter().map(|(name, _)| name.to_string()).collect(),
        attached: attached.iter().map(ToString::to_string).collect(),
        created_at: Timestamp(app.created_at_ms),
        deployment: None,
    })
}
