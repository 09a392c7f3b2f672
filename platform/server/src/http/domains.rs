//! Domains of an app.

use axum::Json;
use axum::http::StatusCode;
use berth_api::{AddDomain, DomainView, Page};
use berth_model::Domain;
use berth_model::plan::Change;
use berth_model::principal::Verb;

use super::apps::default_host;
use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query, field};
use super::page::PageQuery;
use super::problem::ApiError;

/// The app's domains, the default one first.
#[utoipa::path(get, path = "/v1/apps/{app}/domains", tag = "domains",
    params(("app" = String, Path), PageQuery), responses((status = 200, body = Page<DomainView>), Problems))]
pub(super) async fn list_domains(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<DomainView>>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let wanted = query.wanted()?;
    let default = DomainView { domain: default_host(&call, &app), default: true };
    let added = call.store().domains(app.id).await?.into_iter();
    let added = added.map(|row| DomainView { domain: row.name.to_string(), default: false });
    // At most a hundred: the list is cut here.
    let domains = std::iter::once(default)
        .filter(|_| wanted.after().is_none())
        .chain(added.filter(|domain| wanted.after().is_none_or(|after| *domain.domain > *after)));
    let count = usize::try_from(wanted.limit_and_one()).unwrap_or(usize::MAX);
    let page = wanted.page(domains.take(count).collect(), |domain| {
        // Every name sorts after this one.
        if domain.default { String::new() } else { domain.domain.clone() }
    });
    Ok(Json(page))
}

/// Route a domain to the app.
#[utoipa::path(post, path = "/v1/apps/{app}/domains", tag = "domains", params(("app" = String, Path)),
    request_body = AddDomain, responses((status = 201, body = DomainView), Problems))]
pub(super) async fn add_domain(
    call: Call,
    Path(app): Path<String>,
    Body(body): Body<AddDomain>,
) -> Result<(StatusCode, Json<DomainView>), ApiError> {
    let app = call.app(&app, Verb::Change).await?;
    let domain: Domain = field("/domain", &body.domain)?;
    call.change(&app, &Change::AddDomain(domain), None).await?;
    call.routed().await;
    Ok((StatusCode::CREATED, Json(DomainView { domain: body.domain, default: false })))
}

/// Route a domain no more.
#[utoipa::path(delete, path = "/v1/apps/{app}/domains/{domain}", tag = "domains",
    params(("app" = String, Path), ("domain" = String, Path)),
    responses((status = 204, description = "It does not route to the app."), Problems))]
pub(super) async fn remove_domain(
    call: Call,
    Path((app, domain)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let app = call.app(&app, Verb::Change).await?;
    if domain == default_host(&call, &app) {
        return Err(ApiError::conflict(
            "the default domain follows from the app's name and cannot be removed",
        ));
    }
    let parsed = domain.parse().map_err(|_| ApiError::not_found("domain", &domain))?;
    call.change(&app, &Change::RemoveDomain(parsed), None).await?;
    call.routed().await;
    Ok(StatusCode::NO_CONTENT)
}
