//! Buildpacks. Who runs the platform decides of them; everybody sees which there are, because apps
//! name them.

use std::pin::Pin;

use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use berth_api::{BuildpackOrder, BuildpackView, Page, SetBuildpackOrder, Timestamp};
use berth_model::BuildpackId;
use berth_model::buildpack::BuildpackGroup;
use berth_model::principal::Verb;
use berth_model::text::printable;
use berth_store::By;
use serde::Deserialize;
use utoipa::IntoParams;

use super::call::Call;
use super::document::Problems;
use super::extensions::{uploaded, whole};
use super::extract::{Json as Body, Path, Query};
use super::page::PageQuery;
use super::problem::ApiError;
use crate::buildpacks::{BuildpackError, Buildpacks, Order, Origin, Shown};

/// Longest text of an author that is shown, bytes.
const TEXT_BYTES_MAX: usize = 4_096;

/// The future of a decision.
pub type Settling<'a, T> = Pin<Box<dyn Future<Output = Result<T, BuildpackError>> + Send + 'a>>;

/// What an operator decides of buildpacks. The caller was authorised before any of these is called;
/// once called, each is carried to its end also when the client goes away.
pub trait BuildpackActions: Send + Sync {
    /// All of them.
    fn list(&self) -> Settling<'_, Vec<Shown>>;

    /// Adds one; also gives whether its id is new.
    fn add(&self, component: Vec<u8>, replace: bool, by: By) -> Settling<'_, (Shown, bool)>;

    /// Removes one that was added.
    fn remove(&self, id: BuildpackId, by: By) -> Settling<'_, ()>;

    /// The groups in which they are tried.
    fn order(&self) -> Order;

    /// Other groups; with none, the usual ones.
    fn set_order(&self, groups: Vec<BuildpackGroup>, by: By) -> Settling<'_, Order>;
}

impl BuildpackActions for Buildpacks {
    fn list(&self) -> Settling<'_, Vec<Shown>> {
        Box::pin(Self::list(self))
    }

    fn add(&self, component: Vec<u8>, replace: bool, by: By) -> Settling<'_, (Shown, bool)> {
        let buildpacks = self.clone();
        whole(async move { Self::add(&buildpacks, component, replace, by).await })
    }

    fn remove(&self, id: BuildpackId, by: By) -> Settling<'_, ()> {
        let buildpacks = self.clone();
        whole(async move { Self::remove(&buildpacks, &id, by).await })
    }

    fn order(&self) -> Order {
        Self::order(self)
    }

    fn set_order(&self, groups: Vec<BuildpackGroup>, by: By) -> Settling<'_, Order> {
        let buildpacks = self.clone();
        whole(async move { Self::set_order(&buildpacks, groups, by).await })
    }
}

/// The buildpacks by name.
#[utoipa::path(get, path = "/v1/buildpacks", tag = "buildpacks", params(PageQuery),
    responses((status = 200, body = Page<BuildpackView>), Problems))]
pub(super) async fn list_buildpacks(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<BuildpackView>>, ApiError> {
    call.may_platform(Verb::Read)?;
    let wanted = query.wanted()?;
    let mut all: Vec<BuildpackView> =
        call.actions().buildpacks().list().await?.into_iter().map(view).collect();
    all.sort_by(|one, other| one.id.cmp(&other.id));
    all.retain(|one| wanted.after().is_none_or(|after| *one.id > *after));
    Ok(Json(wanted.page(all, |one| one.id.clone())))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AddQuery {
    /// Put it in the place of the one of its id, which may ship with Berth.
    #[serde(default)]
    replace: bool,
}

/// Add a buildpack, whose manifest is in its component. It is asked about every source from the next
/// build on, before those that ship with Berth; where an order was set, it becomes its first group.
/// An id that is taken is refused without `replace`.
#[utoipa::path(post, path = "/v1/buildpacks", tag = "buildpacks", params(AddQuery),
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses(
        (status = 200, description = "It took the place of another one, or was there already.", body = BuildpackView),
        (status = 201, description = "It is new.", body = BuildpackView),
        Problems,
    ))]
pub(super) async fn add_buildpack(
    call: Call,
    Query(query): Query<AddQuery>,
    request: Request,
) -> Result<(StatusCode, Json<BuildpackView>), ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let (component, _place) = uploaded(&call, request).await?;
    let (shown, new) = call.actions().buildpacks().add(component, query.replace, call.by()).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(view(shown))))
}

/// Remove a buildpack that was added, and the groups of the order that need it. What was built with
/// it goes on. Where it stood in the place of one that ships with Berth, that one is there again.
#[utoipa::path(delete, path = "/v1/buildpacks/{buildpack}", tag = "buildpacks",
    params(("buildpack" = String, Path)),
    responses((status = 204, description = "It is gone."), Problems))]
pub(super) async fn remove_buildpack(
    call: Call,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let parsed: BuildpackId = id.parse().map_err(|_| ApiError::not_found("buildpack", &id))?;
    call.actions().buildpacks().remove(parsed, call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The groups of buildpacks that are tried for an app that names none.
#[utoipa::path(get, path = "/v1/buildpack-order", tag = "buildpacks",
    responses((status = 200, body = BuildpackOrder), Problems))]
pub(super) async fn show_buildpack_order(call: Call) -> Result<Json<BuildpackOrder>, ApiError> {
    call.may_platform(Verb::Read)?;
    Ok(Json(order(call.actions().buildpacks().order())))
}

/// Set the groups; without any, the usual ones are tried again.
#[utoipa::path(put, path = "/v1/buildpack-order", tag = "buildpacks",
    request_body = SetBuildpackOrder,
    responses((status = 200, body = BuildpackOrder), Problems))]
pub(super) async fn set_buildpack_order(
    call: Call,
    Body(body): Body<SetBuildpackOrder>,
) -> Result<Json<BuildpackOrder>, ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let mut groups = Vec::new();
    for (place, text) in body.groups.iter().enumerate() {
        let group = text
            .parse::<BuildpackGroup>()
            .map_err(|error| ApiError::invalid(format!("/groups/{place}"), error.to_string()))?;
        groups.push(group);
    }
    Ok(Json(order(call.actions().buildpacks().set_order(groups, call.by()).await?)))
}

fn order(order: Order) -> BuildpackOrder {
    BuildpackOrder { groups: order.groups, set: order.set }
}

fn view(shown: Shown) -> BuildpackView {
    let origin = match shown.origin {
        Origin::Shipped => "shipped",
        Origin::Added => "added",
        Origin::Replaced => "replaced",
    };
    let manifest = shown.added.as_ref().map(|added| &added.manifest);
    BuildpackView {
        version: manifest.map(|manifest| manifest.version.clone()),
        description: manifest
            .map(|manifest| printable(&manifest.description, TEXT_BYTES_MAX))
            .unwrap_or_default(),
        added_at: shown.added.as_ref().map(|added| Timestamp(added.added_at_ms)),
        changed_at: shown.added.as_ref().map(|added| Timestamp(added.changed_at_ms)),
        broken: shown.broken.map(|reason| printable(&reason, TEXT_BYTES_MAX)),
        id: shown.id,
        origin: origin.to_owned(),
        component: shown.component.to_string(),
    }
}
