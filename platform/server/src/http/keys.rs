//! SSH public keys.

use axum::Json;
use axum::http::StatusCode;
use berth_api::{AddKey, KeyView, Page, Timestamp};
use berth_model::KeyId;
use berth_model::principal::Verb;
use berth_store::{Key, NewKey};

use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query, field};
use super::problem::ApiError;
use super::ssh_key::PublicKey;
use super::tokens::{MineQuery, bearer, label, may_manage, team_of, user_of};

/// The keys of teams, newest first: of those in which the caller manages access; or the caller's own.
#[utoipa::path(get, path = "/v1/keys", tag = "access", params(MineQuery), responses((status = 200, body = Page<KeyView>), Problems))]
pub(super) async fn list_keys(
    call: Call,
    Query(query): Query<MineQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    let mine = query.mine;
    let wanted = query.wanted()?;
    let (before, limit) = (wanted.after_as()?, wanted.limit_and_one());
    let rows = match mine {
        true => call.store().keys_of(call.acting_user().await?.id, before, limit).await?,
        false => call.store().keys(call.listed(Verb::ManageAccess)?, before, limit).await?,
    };
    let page = wanted.page(rows, |key| key.id.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for key in page.items {
        items.push(view(&call, key).await?);
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

/// Let whoever holds a key push.
#[utoipa::path(post, path = "/v1/keys", tag = "access", request_body = AddKey,
    responses((status = 201, body = KeyView), Problems))]
pub(super) async fn add_key(
    call: Call,
    Body(body): Body<AddKey>,
) -> Result<(StatusCode, Json<KeyView>), ApiError> {
    let (owner, role) =
        bearer(&call, body.mine, body.team.as_deref(), body.role.as_deref()).await?;
    let public: PublicKey = field("/public_key", &body.public_key)?;
    let new = NewKey {
        name: label("/name", &body.name)?,
        owner,
        role,
        fingerprint: public.fingerprint,
        public_key: public.line,
    };
    let key = call.store().add_key(&new, &call.by()).await?;
    Ok((StatusCode::CREATED, Json(view(&call, key).await?)))
}

/// Remove a key.
#[utoipa::path(delete, path = "/v1/keys/{key}", tag = "access", params(("key" = String, Path)),
    responses((status = 204, description = "It may push no more."), Problems))]
pub(super) async fn remove_key(call: Call, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let absent = || ApiError::not_found("key", &id);
    let parsed: KeyId = id.parse().map_err(|_| absent())?;
    let key = call.store().key(parsed).await?.ok_or_else(absent)?;
    may_manage(&call, key.owner, key.role, absent).await?;
    call.store().remove_key(key.id, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn view(call: &Call, key: Key) -> Result<KeyView, ApiError> {
    Ok(KeyView {
        id: key.id.to_string(),
        team: team_of(call, key.owner).await?,
        user: user_of(call, key.owner).await?,
        name: key.name,
        role: key.role.as_str().to_owned(),
        fingerprint: key.fingerprint,
        public_key: key.public_key,
        created_at: Timestamp(key.created_at_ms),
    })
}
