//! Who calls: a bearer token, or the cookie of a console session, becomes a caller.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use berth_model::principal::{Decision, Resource, Verb, Via, authorize};
use berth_model::{App, Caller, Role, TeamId};
use berth_store::Valid;

use super::Platform;
use super::call::Call;
use super::cookie;
use super::guard::CalledAs;
use super::problem::ApiError;
use crate::attempts::Denial;

/// Wrong tokens that are answered at the same time; more are turned away at once.
pub(super) const FAILURES_MAX: usize = 16;
/// How long the answer to a wrong token takes.
const FAILURE_PAUSE: Duration = Duration::from_millis(250);
/// Why a policy that says no is passed over.
const OVERRIDE: HeaderName = HeaderName::from_static("berth-override-policy");
/// Longest reason, bytes.
const REASON_BYTES_MAX: usize = 500;
/// A session's use is noted this often, milliseconds.
const SEEN_MS: i64 = 60_000;
/// Tokens are far shorter.
const TOKEN_BYTES_MAX: usize = 512;

impl FromRequestParts<Arc<Platform>> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        platform: &Arc<Platform>,
    ) -> Result<Self, ApiError> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let called_as = called_as(parts);
        let caller = match by_cookie(platform, parts, &called_as, address).await? {
            Some(caller) => caller,
            None => by_token(platform, &parts.headers, address).await?,
        };
        let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let operation = format!("{} {path}", parts.method);
        let mut call = Self {
            platform: Arc::clone(platform),
            caller,
            called_as,
            once: None,
            operation,
            overrides: None,
        };
        call.overrides = overrides(&call, &parts.headers)?;
        Ok(call)
    }
}

/// Why the caller passes over policies, who may do so somewhere; whether that is there is decided
/// with what is done.
fn overrides(call: &Call, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(OVERRIDE) else { return Ok(None) };
    let caller = &call.caller;
    if !caller.may_somewhere(Verb::OverridePolicy) {
        let own = Resource::OfTeam(caller.team);
        call.refused(Verb::OverridePolicy, &own, None, false);
        return Err(ApiError::forbidden(format!(
            "{}; overriding a policy takes {}",
            has(caller, caller.highest_role()),
            Verb::OverridePolicy.least_role().as_str()
        )));
    }
    let reason = std::str::from_utf8(value.as_bytes()).map(str::trim).unwrap_or_default();
    if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(ApiError::bad_request(format!(
            "Berth-Override-Policy takes the reason, 1 to {REASON_BYTES_MAX} bytes of UTF-8; it is \
             recorded"
        )));
    }
    Ok(Some(berth_model::text::printable(reason, REASON_BYTES_MAX)))
}

/// The name under which the API was called.
pub(super) fn called_as(parts: &Parts) -> Authority {
    match parts.extensions.get::<CalledAs>() {
        Some(CalledAs(name)) => name.clone(),
        None => Authority::from_static("localhost"),
    }
}

/// Whoever has a session of the console. A token that is there as well is what counts.
async fn by_cookie(
    platform: &Platform,
    parts: &Parts,
    called_as: &Authority,
    address: Option<IpAddr>,
) -> Result<Option<Caller>, ApiError> {
    if parts.headers.contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let Some(value) = cookie::find(&parts.headers, called_as) else { return Ok(None) };
    cookie::check(&parts.method, &parts.headers, called_as)?;
    let (limits, now_ms) = (platform.sign_in.limits, (platform.now_ms)());
    let found = platform.store.caller_by_cookie(value, address, limits, now_ms).await?;
    let Some((caller, session)) = found else {
        return Err(ApiError::unauthorized("your session has ended; sign in again"));
    };
    if session.seen_at_ms + SEEN_MS <= now_ms && parts.method != Method::HEAD {
        platform.store.session_seen(session.id, now_ms).await?;
    }
    Ok(Some(caller))
}

async fn by_token(
    platform: &Platform,
    headers: &HeaderMap,
    address: Option<IpAddr>,
) -> Result<Caller, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::unauthorized("give an access token: `Authorization: Bearer TOKEN`"));
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty() && token.len() <= TOKEN_BYTES_MAX);
    let found = match token {
        Some(token) => platform.store.caller_by_token(token, address, (platform.now_ms)()).await?,
        None => None,
    };
    match found {
        Some(caller) => Ok(caller),
        None => {
            platform.attempts.wrong_token("the API", address);
            Err(slowly(platform).await)
        }
    }
}

/// The answer to a wrong token takes a while, and only so many wait for it.
async fn slowly(platform: &Platform) -> ApiError {
    match pause(platform).await {
        Ok(()) => ApiError::unauthorized(
            "this access token is not valid: it is wrong, expired or revoked",
        ),
        Err(error) => error,
    }
}

/// Takes as long as a wrong guess takes.
pub(super) async fn pause(platform: &Platform) -> Result<(), ApiError> {
    let Ok(_place) = platform.failures.try_acquire() else {
        return Err(ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-failures",
            "Too many wrong tokens",
            "too many calls with wrong tokens; wait a moment",
        )
        .after(1));
    };
    tokio::time::sleep(FAILURE_PAUSE).await;
    Ok(())
}

impl Call {
    /// Completes when what the caller showed is not worth the same any more: revoked, replaced,
    /// expired, signed out, or of other roles. What goes on for long ends then.
    pub(super) fn until_revoked(&self) -> impl Future<Output = ()> + Send + use<> {
        let (store, caller, now_ms) =
            (self.platform.store.clone(), self.caller.clone(), self.platform.now_ms);
        let limits = self.platform.sign_in.limits;
        // Every change of a token, a session or a user writes an event.
        let mut events = store.watch_events();
        async move {
            let mut slept_until = None;
            loop {
                events.mark_unchanged();
                let valid = store.still_valid(caller.via, limits, now_ms()).await;
                let valid = valid.unwrap_or_else(|error| {
                    tracing::warn!("a stream ends, for its caller cannot be read: {error}");
                    None
                });
                let same = |valid: &Valid| {
                    let (mut found, as_now) = (valid.caller.clone(), &caller);
                    found.source_ip = as_now.source_ip;
                    found == *as_now && slept_until.is_none_or(|at| Some(at) != valid.until_ms)
                };
                let Some(valid) = valid.filter(same) else { return };
                let left = valid.until_ms.map(|at| at.saturating_sub(now_ms()));
                let left = left.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
                let expired = async {
                    match left {
                        Some(left) => tokio::time::sleep(left).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    // A session that was used since lasts longer.
                    () = expired => slept_until = valid.until_ms,
                    event = events.changed() => if event.is_err() { return },
                }
            }
        }
    }

    /// What every operation begins with. `hidden` is the answer for what does not exist.
    pub(crate) fn may(
        &self,
        verb: Verb,
        resource: &Resource,
        hidden: impl FnOnce() -> ApiError,
    ) -> Result<(), ApiError> {
        self.decide(verb, resource, hidden)
    }

    /// The same for an app, which an auditor is told.
    pub(crate) fn may_app(
        &self,
        verb: Verb,
        app: &App,
        hidden: impl FnOnce() -> ApiError,
    ) -> Result<(), ApiError> {
        self.decide(verb, &app.into(), hidden)
    }

    fn decide(
        &self,
        verb: Verb,
        resource: &Resource,
        hidden: impl FnOnce() -> ApiError,
    ) -> Result<(), ApiError> {
        // Who overrides a policy may do so where it is done.
        let overrides = self.overrides.as_ref().map(|_| Verb::OverridePolicy);
        let overrides = overrides.filter(|_| verb != Verb::Read && *resource != Resource::Platform);
        for verb in std::iter::once(verb).chain(overrides) {
            let decision = authorize(&self.caller, verb, resource);
            if decision != Decision::Allowed {
                self.refused(verb, resource, None, decision == Decision::Hidden);
            }
            match decision {
                Decision::Allowed => {}
                Decision::Denied => {
                    return Err(ApiError::forbidden(why_not(&self.caller, verb, resource)));
                }
                Decision::Hidden => return Err(hidden()),
            }
        }
        Ok(())
    }

    fn refused(&self, verb: Verb, resource: &Resource, gives: Option<Role>, hidden: bool) {
        let (caller, call) = (&self.caller, self.operation.as_str());
        let app = match resource {
            Resource::App { app, .. } => Some(*app),
            Resource::OfTeam(_) | Resource::Platform => None,
        };
        let denial = Denial { caller, verb, resource, app, gives, call, hidden };
        self.platform.attempts.denied(&denial);
    }

    /// The same for the platform itself, which is never hidden.
    pub(crate) fn may_platform(&self, verb: Verb) -> Result<(), ApiError> {
        self.may(verb, &Resource::Platform, || ApiError::not_found("path", ""))
    }

    /// Nobody gives away more than they have: in a team, or for what acts as themselves.
    pub(crate) fn may_give(&self, role: Role, team: Option<TeamId>) -> Result<(), ApiError> {
        let has_role = match team {
            Some(team) => self.caller.role_in(team),
            None => self.caller.highest_role(),
        };
        if has_role.is_some_and(|has| role <= has) {
            return Ok(());
        }
        let resource = Resource::OfTeam(team.unwrap_or(self.caller.team));
        self.refused(Verb::ManageAccess, &resource, Some(role), false);
        Err(ApiError::forbidden(format!(
            "{}; it cannot give the role {}",
            has(&self.caller, has_role),
            role.as_str()
        )))
    }
}

/// The role that a caller has, in a sentence.
fn has(caller: &Caller, role: Option<Role>) -> String {
    let whose = match caller.via {
        Via::Token(_) | Via::Key(_) => "your token has",
        Via::Session(_) => "you have",
    };
    match role {
        Some(role) => format!("{whose} the role {}", role.as_str()),
        None => format!("{whose} no role"),
    }
}

fn why_not(caller: &Caller, verb: Verb, resource: &Resource) -> String {
    let role = resource.role_of(caller);
    if role.is_none_or(|role| role < verb.least_role()) {
        let role = role.max(caller.highest_role().filter(|_| *resource == Resource::Platform));
        return format!("{}; this takes {}", has(caller, role), verb.least_role().as_str());
    }
    if !caller.scope.has(verb) {
        let scope = caller.scope.as_str();
        return format!("your token has the scope {scope}, with which it may not {}", verb.words());
    }
    "your token is for some apps only; this takes one for all".to_owned()
}
