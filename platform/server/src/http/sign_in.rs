//! Sessions of the console: who signs in gets a cookie, which a page of this origin may use.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use berth_api::{ChoosePassword, SessionView, SignIn, TeamRights, Timestamp};
use berth_model::principal::{Decision, Resource, Verb, Via, authorize};
use berth_model::{Caller, Role, TeamId, UserName};
use berth_store::{By, NewSession, SignedIn, User, UserState};

use super::call::Call;
use super::document::Problems;
use super::extract::Json as Body;
use super::problem::ApiError;
use super::{Platform, auth, cookie};
use crate::guesses::Try;
use crate::passwords::{BYTES_MAX, Busy, flaw};

/// What is kept of a browser's name for itself, bytes.
const AGENT_BYTES_MAX: usize = 200;
/// Secrets of links are shorter.
const LINK_BYTES_MAX: usize = 128;
/// Teams that an administrator's session names.
const TEAMS_MAX: u32 = 1000;

/// Who comes with nothing yet, from a page of this origin.
pub(super) struct Visitor {
    platform: Arc<Platform>,
    called_as: Authority,
    address: Option<IpAddr>,
    agent: String,
}

impl FromRequestParts<Arc<Platform>> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        platform: &Arc<Platform>,
    ) -> Result<Self, ApiError> {
        let called_as = auth::called_as(parts);
        // Or a page of another site could sign somebody in as somebody else.
        cookie::check(&parts.method, &parts.headers, &called_as)?;
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let platform = Arc::clone(platform);
        Ok(Self { platform, called_as, address, agent: agent(&parts.headers) })
    }
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    berth_model::text::printable(agent.unwrap_or_default(), AGENT_BYTES_MAX)
}

/// Sign in to the console, with a password or by a link; each link is good once. The cookie that
/// comes back is for pages of this origin alone.
#[utoipa::path(post, path = "/v1/session", tag = "access", security(()), request_body = SignIn,
    responses((status = 200, body = SessionView), (status = 429, description = "Too many wrong \
        passwords; `Retry-After` says how many seconds to wait.",
        content_type = "application/problem+json", body = berth_api::Problem), Problems))]
pub(super) async fn sign_in(
    visitor: Visitor,
    Body(body): Body<SignIn>,
) -> Result<Response, ApiError> {
    let begun = match (body.user, body.password, body.link) {
        (Some(user), Some(password), None) => by_password(&visitor, &user, password).await?,
        (None, None, Some(link)) => by_link(&visitor, &link).await?,
        _ => {
            return Err(ApiError::invalid("", "give `user` and `password`, or only `link`"));
        }
    };
    let platform = &visitor.platform;
    let (limits, now_ms) = (platform.sign_in.limits, (platform.now_ms)());
    let found = platform.store.caller_by_cookie(&begun, visitor.address, limits, now_ms).await?;
    let (caller, _) = found.ok_or_else(|| ApiError::unauthorized("the session has ended"))?;
    let view = view(platform, &caller).await?;
    let set = cookie::set(&visitor.called_as, Some((&begun, limits.absolute_ms / 1000)));
    Ok((AppendHeaders([(header::SET_COOKIE, set)]), Json(view)).into_response())
}

async fn by_password(visitor: &Visitor, name: &str, password: String) -> Result<String, ApiError> {
    let (platform, now_ms) = (&visitor.platform, (visitor.platform.now_ms)());
    let made = begin(platform, name, visitor.address)?;
    let user = match name.parse::<UserName>() {
        Ok(name) => platform.store.user_by_name(&name).await?,
        Err(_) => None,
    };
    let hash = user.as_ref().filter(|user| user.state == UserState::Active);
    let hash = hash.and_then(|user| user.password.clone());
    let right = is_right(platform, made, password, hash.clone()).await?;
    if let (true, Some(user), Some(hash)) = (right, &user, hash) {
        let new = NewSession {
            user: user.id,
            sets_password: false,
            agent: visitor.agent.clone(),
            limits: platform.sign_in.limits,
        };
        let by = by(user, visitor.address, now_ms);
        if let Some((_, cookie)) = platform.store.sign_in(&new, &hash, &by).await? {
            return Ok(cookie);
        }
    }
    wrong(platform, user.as_ref(), visitor.address, made);
    Err(ApiError::unauthorized("the name or the password is not right"))
}

async fn by_link(visitor: &Visitor, secret: &str) -> Result<String, ApiError> {
    let platform = &visitor.platform;
    let limits = platform.sign_in.limits;
    let (address, now_ms) = (visitor.address, (platform.now_ms)());
    let agent = visitor.agent.clone();
    let found = match secret.len() <= LINK_BYTES_MAX {
        true => platform.store.follow_link(secret, agent, limits, address, now_ms).await?,
        false => None,
    };
    match found {
        Some(linked) => Ok(linked.cookie),
        None => {
            platform.attempts.wrong_link(address);
            auth::pause(platform).await?;
            Err(ApiError::unauthorized(
                "this link is good no more: each is good once, and not for long; ask an \
                 administrator for another one (`berth users link NAME`)",
            ))
        }
    }
}

/// A user who does something before being signed in.
fn by(user: &User, source_ip: Option<IpAddr>, at_ms: i64) -> By {
    By { principal: user.principal, name: user.name.to_string(), source_ip, ..By::system(at_ms) }
}

fn begin(platform: &Platform, name: &str, from: Option<IpAddr>) -> Result<Try, ApiError> {
    platform.sign_in.begin(name, from).map_err(|wait| {
        too_many(wait, "too many wrong passwords for this name or from this network")
    })
}

/// Looks at a password; the try is settled when it is right.
async fn is_right(
    platform: &Platform,
    made: Try,
    password: String,
    hash: Option<String>,
) -> Result<bool, ApiError> {
    // What is too long is nobody's.
    let (password, hash) = match password.len() <= BYTES_MAX {
        true => (password, hash),
        false => (String::new(), None),
    };
    match platform.sign_in.is_right(password, hash).await {
        Ok(right) => {
            if right {
                platform.sign_in.right(made);
            }
            Ok(right)
        }
        Err(Busy) => {
            platform.sign_in.unanswered(made);
            Err(busy())
        }
    }
}

fn wrong(platform: &Platform, user: Option<&User>, from: Option<IpAddr>, made: Try) {
    platform.sign_in.wrong(made);
    // A name that nobody has is not kept: it may be a password in the wrong field.
    let name = user.map(|user| user.name.as_str());
    platform.attempts.wrong_password(name, from, made.locks);
}

fn too_many(wait: Duration, what: &str) -> ApiError {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many-failures",
        "Too many failures",
        format!("{what}; try again in {seconds} s"),
    )
    .after(seconds)
}

fn busy() -> ApiError {
    too_many(Duration::from_secs(1), "many sign in at this moment")
}

/// Who the caller is, what they may do in which team, and until when.
#[utoipa::path(get, path = "/v1/session", tag = "access", responses((status = 200, body = SessionView), Problems))]
pub(super) async fn show_session(call: Call) -> Result<Json<SessionView>, ApiError> {
    call.may_platform(Verb::Read)?;
    Ok(Json(view(&call.platform, &call.caller).await?))
}

/// Sign out: the session ends.
#[utoipa::path(delete, path = "/v1/session", tag = "access", responses(
    (status = 204, description = "It has ended."), Problems))]
pub(super) async fn sign_out(call: Call) -> Result<Response, ApiError> {
    let session = own(&call).await?;
    call.store().end_session(session.id, &call.by()).await?;
    let set = cookie::set(&call.called_as, None);
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(header::SET_COOKIE, set)])).into_response())
}

/// Choose a password; every other session of the user ends.
#[utoipa::path(post, path = "/v1/session/password", tag = "access", request_body = ChoosePassword,
    responses((status = 204, description = "It is the password now."), Problems))]
pub(super) async fn choose_password(
    call: Call,
    Body(body): Body<ChoosePassword>,
) -> Result<StatusCode, ApiError> {
    let session = own(&call).await?;
    let user = call.store().user(session.user).await?;
    if let Some(flaw) = flaw(&body.new, user.name.as_str()) {
        return Err(ApiError::invalid("/new", flaw));
    }
    let was = match (session.sets_password, body.current) {
        (true, _) => None,
        (false, None) => {
            return Err(ApiError::invalid("/current", "give the password that you have now"));
        }
        (false, Some(current)) => {
            let made = begin(&call.platform, user.name.as_str(), call.caller.source_ip)?;
            let hash = user.password.clone();
            if !is_right(&call.platform, made, current, hash.clone()).await? {
                wrong(&call.platform, Some(&user), call.caller.source_ip, made);
                return Err(ApiError::invalid("/current", "this is not your password"));
            }
            hash
        }
    };
    let hash = call.platform.sign_in.hash(body.new).await.map_err(|Busy| busy())?;
    let hash = hash.ok_or_else(|| ApiError::unavailable("the system gives no random bytes"))?;
    let done =
        call.store().set_password(user.id, &hash, was.as_deref(), session.id, &call.by()).await?;
    if done {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::conflict("the password was changed in the meantime; sign in again"))
    }
}

/// The session in which a call was made.
async fn own(call: &Call) -> Result<SignedIn, ApiError> {
    let absent = || ApiError::not_found("session", "of this call: it was made with a token");
    let Via::Session(id) = call.caller.via else { return Err(absent()) };
    call.store().session(id).await?.ok_or_else(absent)
}

async fn view(platform: &Platform, caller: &Caller) -> Result<SessionView, ApiError> {
    let store = &platform.store;
    let limits = platform.sign_in.limits;
    let user = store.user_of(caller.principal).await?;
    let (mut id, mut may_set_password, mut expires_at, mut ends_at) = (None, false, None, None);
    match caller.via {
        Via::Session(session) => {
            if let Some(session) = store.session(session).await? {
                id = Some(session.id.to_string());
                may_set_password = session.sets_password;
                expires_at = Some(Timestamp(session.until_ms(limits)));
                ends_at = Some(Timestamp(session.ends_at_ms(limits)));
            }
        }
        Via::Token(token) => {
            let token = store.token(token).await?;
            expires_at = token.and_then(|token| token.expires_at_ms).map(Timestamp);
        }
        Via::Key(_) => {}
    }
    let mut teams = Vec::new();
    for team in store.teams(caller.visible(), None, TEAMS_MAX).await? {
        let Some(role) = caller.role_in(team.id) else { continue };
        teams.push(TeamRights {
            team: team.name.to_string(),
            role: role.as_str().to_owned(),
            may: may(caller, &of_team(caller, team.id), &Verb::ALL),
        });
    }
    let home = store.team(caller.team).await?;
    Ok(SessionView {
        id,
        has_password: user.as_ref().is_some_and(|user| user.password.is_some()),
        user: user.map(|user| user.name.to_string()),
        name: caller.name.clone(),
        admin: caller.highest_role() == Some(Role::Admin),
        team: home.map_or_else(String::new, |team| team.name.to_string()),
        teams,
        platform: may(caller, &Resource::Platform, &[Verb::Read, Verb::ManagePlatform]),
        may_set_password,
        expires_at,
        ends_at,
    })
}

/// What stands for a team's things: of a token for some apps, such an app.
fn of_team(caller: &Caller, team: TeamId) -> Resource {
    match caller.apps.as_ref().and_then(|apps| apps.first()) {
        Some(app) => Resource::App { team, app: *app },
        None => Resource::OfTeam(team),
    }
}

fn may(caller: &Caller, resource: &Resource, verbs: &[Verb]) -> Vec<String> {
    let allowed = |verb: &&Verb| authorize(caller, **verb, resource) == Decision::Allowed;
    verbs.iter().filter(allowed).map(|verb| verb.as_str().to_owned()).collect()
}
