//! Users: who they are, in which teams, and where they are signed in. They are the administrators'
//! matter; each user sees what is about that user.

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use berth_api::{
    ChangeUser, CreateUser, GrantRole, Page, SignInLink, TeamRole, Timestamp, UserCreated,
    UserSessionView, UserView,
};
use berth_model::principal::{Scope, Verb, Via};
use berth_model::{Role, SessionId};
use berth_store::{NewUser, Team, User, UserState};

use super::call::Call;
use super::cookie;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query, field};
use super::page::PageQuery;
use super::problem::ApiError;

/// Users by name; to who is no administrator only themselves.
#[utoipa::path(get, path = "/v1/users", tag = "access", params(PageQuery), responses((status = 200, body = Page<UserView>), Problems))]
pub(super) async fn list_users(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<UserView>>, ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let wanted = query.wanted()?;
    let rows = call.store().users(wanted.after(), wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |user| user.name.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for user in page.items {
        items.push(view(&call, &user).await?);
    }
    Ok(Json(Page { items, next_page_token: page.next_page_token }))
}

/// Create a user, with a link to sign in for the first time. The answer is the only one with it.
#[utoipa::path(post, path = "/v1/users", tag = "access", request_body = CreateUser,
    responses((status = 201, body = UserCreated), Problems))]
pub(super) async fn create_user(
    call: Call,
    Body(body): Body<CreateUser>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<UserCreated>), ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let role = match (&body.role, &body.team) {
        (Some(role), team) => {
            let team = call.team(team.as_deref(), Verb::ManageAccess).await?;
            let role: Role = field("/role", role)?;
            call.may_give(role, Some(team.id))?;
            Some((team.id, role))
        }
        (None, Some(_)) => {
            return Err(ApiError::invalid("/role", "give the role in that team"));
        }
        (None, None) => None,
    };
    let new = NewUser { name: field("/name", &body.name)?, role };
    let user = call.store().create_user(&new, &call.by()).await?;
    let link = new_link(&call, &user).await?;
    let created = UserCreated { user: view(&call, &user).await?, link };
    let location = [(header::LOCATION, format!("/v1/users/{}", user.name))];
    Ok((StatusCode::CREATED, location, Json(created)))
}

/// A user.
#[utoipa::path(get, path = "/v1/users/{user}", tag = "access", params(("user" = String, Path)),
    responses((status = 200, body = UserView), Problems))]
pub(super) async fn show_user(
    call: Call,
    Path(name): Path<String>,
) -> Result<Json<UserView>, ApiError> {
    let user = own_or_any(&call, &name).await?;
    Ok(Json(view(&call, &user).await?))
}

/// Let a user act, or no more: the sessions end, and no token or key of the user is good for
/// anything.
#[utoipa::path(patch, path = "/v1/users/{user}", tag = "access", params(("user" = String, Path)),
    request_body = ChangeUser, responses((status = 200, body = UserView), Problems))]
pub(super) async fn change_user(
    call: Call,
    Path(name): Path<String>,
    Body(body): Body<ChangeUser>,
) -> Result<Json<UserView>, ApiError> {
    let user = any(&call, &name).await?;
    let state = match body.state.as_str() {
        "active" => UserState::Active,
        "disabled" => UserState::Disabled,
        _ => return Err(ApiError::invalid("/state", "use active or disabled")),
    };
    call.store().set_user_state(user.id, state, &call.by()).await?;
    let user = call.store().user(user.id).await?;
    Ok(Json(view(&call, &user).await?))
}

/// Remove a user, with the sessions, tokens and keys.
#[utoipa::path(delete, path = "/v1/users/{user}", tag = "access", params(("user" = String, Path)),
    responses((status = 204, description = "There is no such user any more."), Problems))]
pub(super) async fn remove_user(
    call: Call,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let user = any(&call, &name).await?;
    call.store().remove_user(user.id, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a link that signs a user in, once; the one before is good no more.
#[utoipa::path(post, path = "/v1/users/{user}/link", tag = "access", params(("user" = String, Path)),
    responses((status = 201, body = SignInLink), Problems))]
pub(super) async fn create_link(
    call: Call,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<SignInLink>), ApiError> {
    let user = any(&call, &name).await?;
    if user.state != UserState::Active {
        return Err(ApiError::conflict(format!("{name} is disabled; enable the user first")));
    }
    Ok((StatusCode::CREATED, Json(new_link(&call, &user).await?)))
}

/// Give a user a role in a team, in the place of the one before.
#[utoipa::path(put, path = "/v1/users/{user}/teams/{team}", tag = "access",
    params(("user" = String, Path), ("team" = String, Path)), request_body = GrantRole,
    responses((status = 200, body = UserView), Problems))]
pub(super) async fn grant_role(
    call: Call,
    Path((name, team)): Path<(String, String)>,
    Body(body): Body<GrantRole>,
) -> Result<Json<UserView>, ApiError> {
    let user = any(&call, &name).await?;
    let team = call.team(Some(&team), Verb::ManageAccess).await?;
    let role = field("/role", &body.role)?;
    call.may_give(role, Some(team.id))?;
    call.store().grant_role(user.id, team.id, role, &call.by()).await?;
    Ok(Json(view(&call, &user).await?))
}

/// Take a user's role in a team.
#[utoipa::path(delete, path = "/v1/users/{user}/teams/{team}", tag = "access",
    params(("user" = String, Path), ("team" = String, Path)),
    responses((status = 204, description = "The user has no role there."), Problems))]
pub(super) async fn revoke_role(
    call: Call,
    Path((name, team)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let user = any(&call, &name).await?;
    let team = call.team(Some(&team), Verb::ManageAccess).await?;
    call.store().take_role(user.id, team.id, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a user is signed in, newest first; there are 32 at most.
#[utoipa::path(get, path = "/v1/users/{user}/sessions", tag = "access",
    params(("user" = String, Path)), responses((status = 200, body = Page<UserSessionView>), Problems))]
pub(super) async fn list_sessions(
    call: Call,
    Path(name): Path<String>,
) -> Result<Json<Page<UserSessionView>>, ApiError> {
    let user = own_or_any(&call, &name).await?;
    let limits = call.platform.sign_in.limits;
    let rows = call.store().sessions(user.id, limits, call.now_ms()).await?;
    let items = rows.into_iter().map(|session| UserSessionView {
        current: call.caller.via == Via::Session(session.id),
        id: session.id.to_string(),
        expires_at: Timestamp(session.until_ms(limits)),
        agent: session.agent,
        source_ip: session.source_ip.map(|ip| ip.to_string()),
        created_at: Timestamp(session.created_at_ms),
        seen_at: Timestamp(session.seen_at_ms),
    });
    Ok(Json(Page { items: items.collect(), next_page_token: None }))
}

/// End a session of a user.
#[utoipa::path(delete, path = "/v1/users/{user}/sessions/{session}", tag = "access",
    params(("user" = String, Path), ("session" = String, Path)),
    responses((status = 204, description = "It has ended."), Problems))]
pub(super) async fn end_session(
    call: Call,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let user = own_or_any(&call, &name).await?;
    let absent = || ApiError::not_found("session", &id);
    let parsed: SessionId = id.parse().map_err(|_| absent())?;
    let session = call.store().session(parsed).await?.filter(|session| session.user == user.id);
    let session = session.ok_or_else(absent)?;
    call.store().end_session(session.id, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Call {
    /// The user that the caller is, if what was shown is good for all that is the user's.
    pub(super) async fn own_user(&self) -> Result<Option<User>, ApiError> {
        if self.caller.scope != Scope::All || self.caller.apps.is_some() {
            return Ok(None);
        }
        Ok(self.store().user_of(self.caller.principal).await?)
    }
}

impl Call {
    /// The same, for what only a user has.
    pub(super) async fn acting_user(&self) -> Result<User, ApiError> {
        self.own_user().await?.ok_or_else(|| {
            ApiError::forbidden(
                "only a user has something of their own: sign in to the console, or use a token \
                 that was created there without limits",
            )
        })
    }
}

/// The user of this name, to an administrator.
async fn any(call: &Call, name: &str) -> Result<User, ApiError> {
    // Asked first: to others no name is there, and none is not.
    call.may_platform(Verb::ManagePlatform)?;
    let absent = || ApiError::not_found("user", name);
    let parsed = name.parse().map_err(|_| absent())?;
    call.store().user_by_name(&parsed).await?.ok_or_else(absent)
}

/// The same, and to the user.
async fn own_or_any(call: &Call, name: &str) -> Result<User, ApiError> {
    match call.own_user().await? {
        Some(user) if user.name.as_str() == name => Ok(user),
        _ => any(call, name).await,
    }
}

async fn new_link(call: &Call, user: &User) -> Result<SignInLink, ApiError> {
    let sign_in = &call.platform.sign_in;
    let good_ms = match user.password {
        Some(_) => sign_in.link_ms,
        None => sign_in.invitation_ms,
    };
    let expires_at = call.now_ms() + good_ms;
    let secret = call.store().make_link(user.id, expires_at, &call.by()).await?;
    Ok(SignInLink {
        url: format!("{}/sign-in#{secret}", cookie::origin(&call.called_as)),
        expires_at: Timestamp(expires_at),
    })
}

async fn view(call: &Call, user: &User) -> Result<UserView, ApiError> {
    let mut teams = Vec::new();
    for member in call.store().memberships(user.id).await? {
        let team: Team = call.team_of(member.team).await?;
        teams.push(TeamRole { team: team.name.to_string(), role: member.role.as_str().to_owned() });
    }
    teams.sort_by(|one, other| one.team.cmp(&other.team));
    Ok(UserView {
        id: user.id.to_string(),
        name: user.name.to_string(),
        state: user.state.as_str().to_owned(),
        has_password: user.password.is_some(),
        teams,
        created_at: Timestamp(user.created_at_ms),
    })
}
