//! One call: who makes it, and what it is about.

use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::Authority;
use berth_model::plan::Change;
use berth_model::principal::{Resource, Verb, Visible};
use berth_model::{App, Caller, TeamId};
use berth_store::{By, Committed, Store, Team};

use super::Platform;
use super::actions::Actions;
use super::problem::ApiError;

/// Longest wait of an answer for the router. Others' publications, which come one after the other,
/// are in it.
const ROUTED_MAX: Duration = Duration::from_secs(5);

/// A call whose caller is known. What it may do is asked in each handler.
pub(crate) struct Call {
    pub(crate) platform: Arc<Platform>,
    pub(crate) caller: Caller,
    /// The name and port under which the API was called.
    pub(crate) called_as: Authority,
    /// The `Idempotency-Key` that its change keeps its event with.
    pub(crate) once: Option<String>,
    /// Method and path as the API has them, without what the caller wrote.
    pub(crate) operation: String,
    /// Why policies are passed over: the caller may do so.
    pub(crate) overrides: Option<String>,
}

impl Call {
    pub(crate) fn store(&self) -> &Store {
        &self.platform.store
    }

    pub(crate) fn actions(&self) -> &dyn Actions {
        &*self.platform.actions
    }

    pub(crate) fn now_ms(&self) -> i64 {
        (self.platform.now_ms)()
    }

    /// The origin of a change.
    pub(crate) fn by(&self) -> By {
        By {
            once: self.once.clone(),
            overrides: self.overrides.clone(),
            ..By::caller(&self.caller, self.now_ms())
        }
    }

    /// What lists have for the caller that are of those only who may do this in a team.
    pub(crate) fn listed(&self, verb: Verb) -> Result<Visible, ApiError> {
        let visible = self.caller.visible_with(verb);
        let nowhere = !self.caller.may_somewhere(verb);
        if verb != Verb::Read && (nowhere || self.caller.apps.is_some()) {
            self.may(verb, &Resource::OfTeam(self.caller.team), || {
                ApiError::forbidden(format!("you may not {} in any team", verb.words()))
            })?;
        }
        Ok(visible)
    }

    /// The app of this name, if the caller may do this to it.
    pub(crate) async fn app(&self, name: &str, verb: Verb) -> Result<App, ApiError> {
        let absent = || ApiError::not_found("app", name);
        let Ok(parsed) = name.parse() else { return Err(absent()) };
        let app = self.store().app_by_name(&parsed).await?.ok_or_else(absent)?;
        self.may_app(verb, &app, absent)?;
        Ok(app)
    }

    /// The team of this name, or the caller's, if the caller may do this in it.
    pub(crate) async fn team(&self, name: Option<&str>, verb: Verb) -> Result<Team, ApiError> {
        let Some(name) = name else {
            self.may(verb, &Resource::OfTeam(self.caller.team), || {
                ApiError::not_found("team", "")
            })?;
            return self.team_of(self.caller.team).await;
        };
        let absent = || ApiError::not_found("team", name);
        let Ok(parsed) = name.parse() else { return Err(absent()) };
        let team = self.store().team_by_name(&parsed).await?.ok_or_else(absent)?;
        self.may(verb, &Resource::OfTeam(team.id), absent)?;
        Ok(team)
    }

    /// A team that a row names.
    pub(crate) async fn team_of(&self, id: TeamId) -> Result<Team, ApiError> {
        let team = self.store().team(id).await?;
        team.ok_or_else(|| ApiError::not_found("team", &id.to_string()))
    }

    /// Makes a change and wakes whoever brings it about.
    pub(crate) async fn change(
        &self,
        app: &App,
        change: &Change,
        expected: Option<u64>,
    ) -> Result<Committed, ApiError> {
        let by = self.by();
        self.actions().judge(Some(app), change, &by).await?;
        let done = self.store().change(Some(app.id), change, expected, &by).await?;
        if !done.plan.is_empty() {
            self.actions().wake(app.id);
        }
        Ok(done)
    }

    /// Returns when the router serves what was changed: a request that comes after the answer must
    /// find it. A router that is away answers nobody, and gets the routes first when it is back.
    pub(crate) async fn routed(&self) {
        match tokio::time::timeout(ROUTED_MAX, self.actions().publish()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!("a change is answered before the router has it: {error}");
            }
            Err(_) => tracing::warn!(
                "a change is answered before the router has it, after {} s",
                ROUTED_MAX.as_secs()
            ),
        }
    }
}
