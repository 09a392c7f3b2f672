//! Access tokens.

use std::collections::BTreeSet;

use axum::Json;
use axum::http::StatusCode;
use berth_api::{CreateToken, Page, Timestamp, TokenCreated, TokenView};
use berth_model::principal::{Decision, Resource, Scope, Verb, authorize};
use berth_model::{AppId, Role, TokenId};
use berth_store::{NewToken, Owner, Token};
use serde::Deserialize;
use utoipa::IntoParams;

use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query, field};
use super::page::{PageQuery, Wanted};
use super::problem::ApiError;

const DAY_MS: i64 = 86_400_000;
/// A hundred years.
const EXPIRES_DAYS_MAX: u32 = 36_500;
/// Apps that a token is for.
const APPS_MAX: usize = 50;
const LABEL_CHARS_MAX: usize = 100;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MineQuery {
    /// Only those that act as the user who asks.
    #[serde(default)]
    pub(super) mine: bool,
    /// Most entries; 50 when absent, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

impl MineQuery {
    pub(super) fn wanted(self) -> Result<Wanted, ApiError> {
        PageQuery::new(self.limit, self.page_token).wanted()
    }
}

/// The tokens of teams, newest first, without their secrets: of those in which the caller manages
/// access; or the caller's own.
#[utoipa::path(get, path = "/v1/tokens", tag = "access", params(MineQuery), responses((status = 200, body = Page<TokenView>), Problems))]
pub(super) async fn list_tokens(
    call: Call,
    Query(query): Query<MineQuery>,
) -> Result<Json<Page<TokenView>>, ApiError> {
    let mine = query.mine;
    let wanted = query.wanted()?;
    let (before, limit) = (wanted.after_as()?, wanted.limit_and_one());
    let rows = match mine {
        true => call.store().tokens_of(call.acting_user().await?.id, before, limit).await?,
        false => call.store().tokens(call.listed(Verb::ManageAccess)?, before, limit).await?,
    };
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
    let (owner, role) =
        bearer(&call, body.mine, body.team.as_deref(), body.role.as_deref()).await?;
    let scope = body.scope.map_or(Ok(Scope::All), |scope| field("/scope", &scope))?;
    let apps = match &body.apps {
        Some(names) => Some(apps(&call, owner, names).await?),
        None => None,
    };
    if body.expires_days.is_some_and(|days| !(1..=EXPIRES_DAYS_MAX).contains(&days)) {
        return Err(ApiError::invalid("/expires_days", "use 1 to 36500 days"));
    }
    let now_ms = call.now_ms();
    let new = NewToken {
        name: label("/name", &body.name)?,
        owner,
        role,
        scope,
        apps,
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
    may_manage(&call, token.owner, token.role, absent).await?;
    call.store().revoke_token(token.id, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whose a new token or key is, and what it may do at most.
pub(super) async fn bearer(
    call: &Call,
    mine: bool,
    team: Option<&str>,
    role: Option<&str>,
) -> Result<(Owner, Role), ApiError> {
    let role: Option<Role> = role.map(|role| field("/role", role)).transpose()?;
    if !mine {
        let team = call.team(team, Verb::ManageAccess).await?;
        let role = role.ok_or_else(|| {
            ApiError::invalid("/role", "give a role: viewer, developer, operator or admin")
        })?;
        call.may_give(role, Some(team.id))?;
        return Ok((Owner::Team(team.id), role));
    }
    let user = call.acting_user().await?;
    if team.is_some() {
        return Err(ApiError::invalid("/team", "what is a user's acts in every team of theirs"));
    }
    // A user who has no role yet may get one.
    let role = role.or(call.caller.highest_role()).unwrap_or(Role::Viewer);
    if call.caller.highest_role().is_some() {
        call.may_give(role, None)?;
    }
    Ok((Owner::User(user.id), role))
}

/// The apps that a token is for, which its bearer sees and, where it is a team's, are the team's.
async fn apps(call: &Call, owner: Owner, names: &[String]) -> Result<BTreeSet<AppId>, ApiError> {
    if !(1..=APPS_MAX).contains(&names.len()) {
        return Err(ApiError::invalid("/apps", format!("name 1 to {APPS_MAX} apps")));
    }
    let mut apps = BTreeSet::new();
    for name in names {
        let app = call.app(name, Verb::Read).await?;
        if owner.team().is_some_and(|team| team != app.team) {
            return Err(ApiError::invalid("/apps", format!("{name} is another team's")));
        }
        apps.insert(app.id);
    }
    Ok(apps)
}

/// Who may end what is a team's or a user's: who manages the team's access and has that role; the
/// user, and an administrator.
pub(super) async fn may_manage(
    call: &Call,
    owner: Owner,
    role: Role,
    absent: impl Fn() -> ApiError,
) -> Result<(), ApiError> {
    match owner {
        Owner::Team(team) => {
            call.may(Verb::ManageAccess, &Resource::OfTeam(team), absent)?;
            call.may_give(role, Some(team))
        }
        Owner::User(user) => {
            let own = call.own_user().await?.is_some_and(|own| own.id == user);
            let any = authorize(&call.caller, Verb::ManagePlatform, &Resource::Platform);
            if own || any == Decision::Allowed { Ok(()) } else { Err(absent()) }
        }
    }
}

/// The name of the team that owns something.
pub(super) async fn team_of(call: &Call, owner: Owner) -> Result<Option<String>, ApiError> {
    let Owner::Team(team) = owner else { return Ok(None) };
    Ok(Some(call.team_of(team).await?.name.to_string()))
}

/// The name of the user who owns something.
pub(super) async fn user_of(call: &Call, owner: Owner) -> Result<Option<String>, ApiError> {
    let Owner::User(user) = owner else { return Ok(None) };
    Ok(Some(call.store().user(user).await?.name.to_string()))
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
    let apps = match token.apps {
        Some(ids) => {
            let mut names = Vec::with_capacity(ids.len());
            for id in ids {
                names.extend(call.store().app(id).await?.map(|app| app.name.to_string()));
            }
            Some(names)
        }
        None => None,
    };
    Ok(TokenView {
        scope: token.scope.as_str().to_owned(),
        apps,
        id: token.id.to_string(),
        team: team_of(call, token.owner).await?,
        user: user_of(call, token.owner).await?,
        name: token.name,
        role: token.role.as_str().to_owned(),
        created_at: Timestamp(token.created_at_ms),
        expires_at: token.expires_at_ms.map(Timestamp),
    })
}
