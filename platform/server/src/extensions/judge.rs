//! Plans before they are made: policies judge them, and blocking hooks are asked.
//!
//! Every policy for the app is asked; one no is a no. A policy that fails or rests is a no as well,
//! and says so. Who may override policies passes over a no with a reason: each is recorded first.

use berth_extensions::hook::Event as HookEvent;
use berth_extensions::policy::{Plan as PolicyPlan, Verdict};
use berth_model::extension::{ExtensionId, Kind};
use berth_model::plan::{Change, Effect, Plan};
use berth_model::text::printable;
use berth_model::{App, AppId};
use berth_store::By;
use serde_json::json;

use super::hooks::unreachable_kind;
use super::{Callable, NotCalled, Registry};
use crate::clock::now_ms;

/// Longest reason that is shown, bytes.
const REASON_BYTES_MAX: usize = 500;
/// Most remarks of one policy that are shown.
const REMARKS_MAX: usize = 10;

/// Somebody said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{extension} does not allow it: {reason}")]
pub struct Denial {
    /// Who.
    pub extension: ExtensionId,
    /// Why, for the one who asks.
    pub reason: String,
}

impl Registry {
    /// Asks every policy about a plan. Gives their remarks, and which were overridden.
    ///
    /// # Errors
    /// The first no, unless `by` overrides policies; that was authorised before.
    pub async fn judge(
        &self,
        app: Option<&App>,
        change: &Change,
        plan: &Plan,
        by: &By,
    ) -> Result<Vec<String>, Denial> {
        let mut remarks = Vec::new();
        // What ends something, or goes back to what ran before, is how operators recover.
        if plan.changes.is_empty() || matches!(change, Change::Rollback { .. } | Change::Stop) {
            return Ok(remarks);
        }
        let asked = PolicyPlan {
            actor: by.name.clone(),
            app: app.map(|app| app.name.to_string()),
            team: app.map(|app| app.team.to_string()),
            actions: actions(change, plan),
            at_ms: u64::try_from(now_ms()).unwrap_or(0),
            document: document(app, plan).to_string(),
            extra: Vec::new(),
        };
        for live in self.of_kind(Kind::Policy) {
            if !app.map_or(live.row.apps.is_none(), |app| live.row.is_for(app.id)) {
                continue;
            }
            let called = self
                .call(&live, app.map(|app| app.id), async |callable, session| match callable {
                    Callable::Policy(policy) => policy.judge(&asked, session).await,
                    _ => unreachable_kind(),
                })
                .await;
            let id = &live.row.id;
            let reason = match called {
                Ok(Verdict::Allow(said)) => {
                    let shown = said.iter().take(REMARKS_MAX);
                    remarks.extend(shown.map(|one| printable(one, REASON_BYTES_MAX)));
                    continue;
                }
                Ok(Verdict::Deny(reason)) => reason,
                Err(error) => format!(
                    "it gave no verdict ({}); an administrator can switch it off with \
                     `berth ext disable {id}`",
                    first_line(&error.to_string())
                ),
            };
            let denial =
                Denial { extension: id.clone(), reason: printable(&reason, REASON_BYTES_MAX) };
            self.passed_over(&denial, app, change, by).await?;
            remarks.push(format!("{id} was overridden; it says: {}", denial.reason));
        }
        Ok(remarks)
    }

    /// Records that a no is passed over; gives it back where nobody does.
    async fn passed_over(
        &self,
        denial: &Denial,
        app: Option<&App>,
        change: &Change,
        by: &By,
    ) -> Result<(), Denial> {
        let Some(why) = &by.overrides else { return Err(denial.clone()) };
        let after = json!({
            "change": change.event_kind(), "denied": denial.reason, "reason": why,
        });
        // The idempotency key is for the event of the change itself.
        let by = By { once: None, ..by.clone() };
        let store = &self.inner.store;
        store.policy_overridden(&denial.extension, app, after, &by).await.map_err(|error| {
            tracing::error!(extension = %denial.extension, "not recorded, so not done: {error}");
            Denial {
                reason: "it could not be recorded that this was overridden".to_owned(),
                ..denial.clone()
            }
        })
    }

    /// Asks the blocking hooks whether something may go on: `before.build`, `before.release`.
    ///
    /// # Errors
    /// The first no, and a hook that failed.
    pub async fn before(
        &self,
        kind: &str,
        app: &App,
        payload: serde_json::Value,
    ) -> Result<(), Denial> {
        for live in self.of_kind(Kind::Hook) {
            let asks = |set: &berth_model::extension::Capabilities| {
                set.events.as_ref().is_some_and(|events| events.blocking && events.include(kind))
            };
            if !live.row.is_for(app.id)
                || !asks(&live.allowed.asked)
                || !asks(&live.allowed.granted)
            {
                continue;
            }
            let event = HookEvent {
                id: format!("{kind}:{}:{}", app.id, now_ms()),
                kind: kind.to_owned(),
                schema: "1".to_owned(),
                subject: app.id.to_string(),
                at_ms: u64::try_from(now_ms()).unwrap_or(0),
                payload: payload.to_string(),
                attempt: 1,
                extra: Vec::new(),
            };
            self.tell(&live, app.id, &event).await.map_err(|error| Denial {
                extension: live.row.id.clone(),
                reason: printable(first_line(&error.to_string()), REASON_BYTES_MAX),
            })?;
        }
        Ok(())
    }

    async fn tell(
        &self,
        live: &std::sync::Arc<super::Live>,
        app: AppId,
        event: &HookEvent,
    ) -> Result<(), NotCalled> {
        self.call(live, Some(app), async |callable, session| match callable {
            Callable::Hook(hook) => hook.on_event(event, session).await,
            _ => unreachable_kind(),
        })
        .await
    }
}

/// What is asked, and the release that comes of it.
fn actions(change: &Change, plan: &Plan) -> Vec<String> {
    const RELEASED: &str = "release.created";
    let asked = change.event_kind();
    let released = plan.changes.iter().any(|effect| matches!(effect, Effect::CreateRelease(_)));
    let more = (released && asked != RELEASED).then_some(RELEASED);
    std::iter::once(asked).chain(more).map(str::to_owned).collect()
}

/// The plan as `berth plan --json` has it, and how the app's instances run.
fn document(app: Option<&App>, plan: &Plan) -> serde_json::Value {
    let mut document = json!({
        "version": plan.version, "generation": plan.generation, "changes": plan.changes,
    });
    if let Some(app) = app {
        let usual = berth_model::Limits::default().memory_mib;
        let most = app.settings.limits.values().map(|limits| limits.memory_mib).max();
        document["instance"] = json!({
            // Everything in an image belongs to this user, and runs as it.
            "uid": 1000,
            "memory_bytes": u64::from(most.unwrap_or(usual).max(usual)) << 20,
        });
    }
    document
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
