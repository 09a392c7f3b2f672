//! Who calls: a bearer token becomes a caller.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use berth_model::principal::{Decision, Resource, Verb, authorize};
use berth_model::{App, AppId, Caller, Role};
use berth_store::Token;

use super::Platform;
use super::call::Call;
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
/// Tokens are far shorter.
const TOKEN_BYTES_MAX: usize = 512;

impl FromRequestParts<Arc<Platform>> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        platform: &Arc<Platform>,
    ) -> Result<Self, ApiError> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let caller = caller(platform, &parts.headers, address).await?;
        let called_as = match parts.extensions.get::<CalledAs>() {
            Some(CalledAs(name)) => name.clone(),
            None => Authority::from_static("localhost"),
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

/// Why the caller passes over policies, who may do so in the own team; whose apps those are is
/// asked in each handler.
fn overrides(call: &Call, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(OVERRIDE) else { return Ok(None) };
    let caller = &call.caller;
    let own = Resource::OfTeam(caller.team);
    if authorize(caller, Verb::OverridePolicy, &own) != Decision::Allowed {
        call.refused(Verb::OverridePolicy, &own, None, None, false);
        return Err(ApiError::forbidden(format!(
            "your token has the role {}; overriding a policy takes {}",
            caller.role.as_str(),
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

async fn caller(
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
    let Ok(_place) = platform.failures.try_acquire() else {
        return ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-failures",
            "Too many wrong tokens",
            "too many calls with wrong tokens; wait a moment",
        );
    };
    tokio::time::sleep(FAILURE_PAUSE).await;
    ApiError::unauthorized("this access token is not valid: it is wrong, expired or revoked")
}

impl Call {
    /// Completes when the token of this call is not valid any more: revoked, replaced, expired or
    /// of another role or team. What goes on for long ends then.
    pub(super) fn until_revoked(&self) -> impl Future<Output = ()> + Send + use<> {
        let (store, caller, now_ms) =
            (self.platform.store.clone(), self.caller.clone(), self.platform.now_ms);
        // Every change of a token writes an event.
        let mut events = store.watch_events();
        async move {
            loop {
                events.mark_unchanged();
                let token = store.token_of(caller.principal).await.unwrap_or_else(|error| {
                    tracing::warn!("a stream ends, for its token cannot be read: {error}");
                    None
                });
                let same = |token: &Token| (token.role, token.team) == (caller.role, caller.team);
                let Some(token) = token.filter(same) else { return };
                let left = token.expires_at_ms.map(|at| at.saturating_sub(now_ms()));
                let left = left.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
                let expired = async {
                    match left {
                        Some(left) => tokio::time::sleep(left).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = expired => return,
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
        self.decide(verb, resource, None, hidden)
    }

    /// The same for an app, which an auditor is told.
    pub(crate) fn may_app(
        &self,
        verb: Verb,
        app: &App,
        hidden: impl FnOnce() -> ApiError,
    ) -> Result<(), ApiError> {
        self.decide(verb, &Resource::OfTeam(app.team), Some(app.id), hidden)
    }

    fn decide(
        &self,
        verb: Verb,
        resource: &Resource,
        app: Option<AppId>,
        hidden: impl FnOnce() -> ApiError,
    ) -> Result<(), ApiError> {
        let decision = authorize(&self.caller, verb, resource);
        if decision != Decision::Allowed {
            self.refused(verb, resource, app, None, decision == Decision::Hidden);
        }
        match decision {
            Decision::Allowed => Ok(()),
            Decision::Denied => Err(ApiError::forbidden(format!(
                "your token has the role {}; this takes {}",
                self.caller.role.as_str(),
                verb.least_role().as_str()
            ))),
            Decision::Hidden => Err(hidden()),
        }
    }

    fn refused(
        &self,
        verb: Verb,
        resource: &Resource,
        app: Option<AppId>,
        gives: Option<Role>,
        hidden: bool,
    ) {
        let (caller, call) = (&self.caller, self.operation.as_str());
        let denial = Denial { caller, verb, resource, app, gives, call, hidden };
        self.platform.attempts.denied(&denial);
    }

    /// The same for the platform itself, which is never hidden.
    pub(crate) fn may_platform(&self, verb: Verb) -> Result<(), ApiError> {
        self.may(verb, &Resource::Platform, || ApiError::not_found("path", ""))
    }

    /// Nobody gives away more than they have.
    pub(crate) fn may_give(&self, role: Role) -> Result<(), ApiError> {
        if role <= self.caller.role {
            return Ok(());
        }
        let own = Resource::OfTeam(self.caller.team);
        self.refused(Verb::ManageAccess, &own, None, Some(role), false);
        Err(ApiError::forbidden(format!(
            "your token has the role {}; it cannot give the role {}",
            self.caller.role.as_str(),
            role.as_str()
        )))
    }
}
