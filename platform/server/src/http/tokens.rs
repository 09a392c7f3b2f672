//! Access tokens.

use axum::Json;
use axum::http::StatusCode;
use berth_api::{CreateToken, Page, Timestamp, TokenCreated, TokenView};
use berth_model::TokenId;
use berth_model::principal::{Resource, Verb};
use berth_store::{NewToken, Token};

use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query, field};
use super::page::PageQuery;
use super::problem::ApiError;

const DAY_MS: i64 = 86_400_000;
/// A hundred years.
const EXPIRES_DAYS_MAX: u32 = 36_500;
const LABEL_CHARS_MAX: usize = 100;

/// The team's tokens, newest first, without their secrets; an administrator's list has those of
/// every team.
#[utoipa::path(get, path = "/v1/tokens", tag = "access", params(PageQuery), responses((status = 200, body = Page<TokenView>), Problems))]
pub(super) async fn list_tokens(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<TokenView>>, ApiError> {
    call.team(None, Verb::ManageAccess).await?;
    let wanted = query.wanted()?;
    let before = wanted.after_as()?;
    let rows = call.store().tokens(call.sees_only(), before, wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |token| token.id.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for token in page.items {
        items.push(view(&call, token).await?);
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

/// Create a token. The answer is the only one with its secret.
#[utoipa::path(post, path = "/v1/tokens", tag = "access", request_body = CreateToken,
    responses((status = 201, body = TokenCreated), Problems))]
pub(super) async fn create_token(
    call: Call,
    Body(body): Body<CreateToken>,
) -> Result<(StatusCode, Json<TokenCreated>), ApiError> {
    let team = call.team(body.team.as_deref(), Verb::ManageAccess).await?;
    let role = field("/role", &body.role)?;
    call.may_give(role)?;
    if body.expires_days.is_some_and(|days| !(1..=EXPIRES_DAYS_MAX).contains(&days)) {
        return Err(ApiError::invalid("/expires_days", "use 1 to 36500 days"));
    }
    let now_ms = call.now_ms();
    let new = NewToken {
        name: label("/name", &body.name)?,
        team: team.id,
        role,
        expires_at_ms: body.expires_days.map(|days| now_ms + i64::from(days) * DAY_MS),
    };
    let (token, secret) = call.store().create_token(&new, &call.by()).await?;
    let created = TokenCreated { token: view(&call, token).await?, secret };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Make a token invalid.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "access", params(("token" = String, Path)),
    responses((status = 204, description = "It is not valid any more."), Problems))]
pub(super) async fn revoke_token(
    call: Call,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let absent = || ApiError::not_found("token", &id);
    let parsed: TokenId = id.parse().map_err(|_| absent())?;
    let token = call.store().token(parsed).await?.ok_or_else(absent)?;
    call.may(Verb::ManageAccess, &Resource::OfTeam(token.team), absent)?;
    call.may_give(token.role)?;
    call.store().revoke_token(token.id, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A name for people, which stands in events and messages.
pub(super) fn label(pointer: &str, text: &str) -> Result<String, ApiError> {
    let text = text.trim();
    let good = (1..=LABEL_CHARS_MAX).contains(&text.chars().count())
        && !text.chars().any(char::is_control);
    if good {
        Ok(text.to_owned())
    } else {
        Err(ApiError::invalid(pointer, "use 1 to 100 characters, none of them a control character"))
    }
}

async fn view(call: &Call, token: Token) -> Result<TokenView, ApiError> {
    Ok(TokenView {
        id: token.id.to_string(),
        team: call.team_of(token.team).await?.name.to_string(),
        name: token.name,
        role: token.role.as_str().to_owned(),
        created_at: Timestamp(token.created_at_ms),
        expires_at: token.expires_at_ms.map(Timestamp),
    })
}
