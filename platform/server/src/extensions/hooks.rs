//! Events on their way to hooks: at least once, in the order of each app.
//!
//! Each hook has a task that lives as long as it is installed. It asks the store what happened
//! since it looked last, gives what the hook wants a row, and offers the rows whose time has come.
//! A process that is killed in between goes on from the rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_extensions::hook::Event as HookEvent;
use berth_model::Event;
use berth_model::extension::{ExtensionId, Kind, Next};
use berth_store::{Delivery, EventFilter, ExtensionState, Order, StoreError, Visible};
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};

use super::{Callable, Live, NotCalled, Registry};
use crate::clock::now_ms;

const EVENTS_MAX: u32 = 500;
const DELIVERIES_MAX: u32 = 32;
/// Without a reason, everything is looked at again after this.
const PERIOD: Duration = Duration::from_secs(30);

/// What an event is to hooks: the same, or, where only its state tells what happened, the name of
/// that.
pub(crate) fn kind(event: &Event) -> Option<String> {
    let state = event.after.get("state").and_then(Value::as_str).unwrap_or_default();
    let name = match (event.kind.as_str(), state) {
        ("deployment.changed", "done") => "deployment.succeeded",
        ("deployment.changed", "failed") => "deployment.failed",
        ("deployment.changed", "rolled_back") => "deployment.rolled_back",
        ("deployment.changed", _) => return None,
        ("build.finished", "succeeded") => "build.succeeded",
        ("build.finished", "failed") => "build.failed",
        (other, _) => other,
    };
    Some(name.to_owned())
}

impl Registry {
    /// Keeps a task for each hook. They end with this future.
    pub async fn deliver(self) {
        let mut changes = self.watch();
        let mut tasks = JoinSet::new();
        let mut running = BTreeMap::<ExtensionId, AbortHandle>::new();
        loop {
            changes.mark_unchanged();
            running.retain(|_, task| !task.is_finished());
            for live in self.of_kind(Kind::Hook) {
                let id = live.row.id.clone();
                running
                    .entry(id.clone())
                    .or_insert_with(|| tasks.spawn(self.clone().deliver_to(id)));
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                // One that was disabled may have been resumed before its task had ended.
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    async fn deliver_to(self, id: ExtensionId) {
        let (mut changes, mut events) = (self.watch(), self.inner.store.watch_events());
        loop {
            changes.mark_unchanged();
            events.mark_unchanged();
            let Some(live) = self.live(&id) else { return };
            if live.row.state == ExtensionState::Disabled
                || live.row.version.manifest.kind != Kind::Hook
            {
                return;
            }
            let wait = match self.pump(&live).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(extension = %id, "events were not delivered: {error}");
                    PERIOD
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                _ = events.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Offers what is due; gives the time until the next try.
    async fn pump(&self, live: &Arc<Live>) -> Result<Duration, StoreError> {
        let (store, id) = (&self.inner.store, &live.row.id);
        self.note_new(live).await?;
        loop {
            if live.row.state != ExtensionState::Active {
                return Ok(PERIOD);
            }
            if let Some(until) = live.rests_until_ms(now_ms()) {
                return Ok(until_then(until));
            }
            let due = store.due_deliveries(id, now_ms(), DELIVERIES_MAX).await?;
            if due.is_empty() {
                let next = store.next_delivery_at_ms(id).await?;
                return Ok(next.map_or(PERIOD, until_then).min(PERIOD));
            }
            for delivery in due {
                if !self.offer(live, &delivery).await? {
                    break;
                }
            }
            // Another version, or none, may be there by now.
            match self.live(id) {
                Some(now) if Arc::ptr_eq(&now, live) => {}
                _ => return Ok(Duration::ZERO),
            }
        }
    }

    /// Gives what happened since the last look, and is wanted, a row.
    async fn note_new(&self, live: &Arc<Live>) -> Result<(), StoreError> {
        let (store, id) = (&self.inner.store, &live.row.id);
        let Some(row) = store.extension(id).await? else { return Ok(()) };
        let mut seen = row.seen;
        let all = EventFilter::all(Visible::All);
        loop {
            let events = store.events(&all, Order::OldestAfter(seen), EVENTS_MAX).await?;
            let Some(last) = events.last() else { return Ok(()) };
            seen = last.seq;
            let wanted: Vec<_> = events
                .iter()
                .filter(|event| wants(live, event))
                .map(|event| {
                    let subject =
                        event.app.map_or_else(|| event.subject.clone(), |app| app.to_string());
                    (event.seq, subject)
                })
                .collect();
            store.add_deliveries(id, seen, &wanted, now_ms()).await?;
        }
    }

    /// Offers one event; false when the hook is not to be called for now.
    async fn offer(&self, live: &Arc<Live>, delivery: &Delivery) -> Result<bool, StoreError> {
        let (store, id, event) = (&self.inner.store, &live.row.id, &delivery.event);
        let attempt = delivery.attempts + 1;
        let offered = self.hook_event(event, attempt).await?;
        let called = self
            .call(live, event.app, async |callable, session| match callable {
                Callable::Hook(hook) => hook.on_event(&offered, session).await,
                _ => unreachable_kind(),
            })
            .await;
        match called {
            Ok(()) => store.delivered(id, event.seq).await?,
            Err(NotCalled::Resting(_)) => return Ok(false),
            Err(NotCalled::Call(error)) => {
                let rules = self.inner.config.delivery;
                let random = f64::from(fastrand::f32());
                let next = match rules.after(attempt, event.at_ms, now_ms(), random) {
                    Next::At(at_ms) => Some(at_ms),
                    Next::Dead => None,
                };
                if next.is_none() {
                    let text = format!(
                        "event {} was not taken in {attempt} tries and is given up; offer it \
                         again with `berth ext replay {id}`",
                        event.seq
                    );
                    self.inner.journal.line(id, "error", &text);
                }
                store.not_delivered(id, event.seq, next, &error.to_string()).await?;
            }
        }
        Ok(true)
    }

    async fn hook_event(&self, event: &Event, attempt: u32) -> Result<HookEvent, StoreError> {
        let app = match event.app {
            Some(app) => self.inner.store.app(app).await?.map(|app| app.name.to_string()),
            None => None,
        };
        let payload = json!({
            "app": app, "actor": event.actor, "before": event.before, "after": event.after,
        });
        Ok(HookEvent {
            id: event.seq.to_string(),
            kind: kind(event).unwrap_or_default(),
            schema: event.schema.to_string(),
            subject: event.subject.clone(),
            at_ms: u64::try_from(event.at_ms).unwrap_or(0),
            payload: payload.to_string(),
            attempt,
            extra: Vec::new(),
        })
    }
}

/// Whether the hook is told of an event: its manifest and its grant name the kind, it is for the
/// app, and no extension wrote it, so that two of them never keep each other busy.
fn wants(live: &Live, event: &Event) -> bool {
    if event.actor.starts_with("extension:") {
        return false;
    }
    let Some(kind) = kind(event) else { return false };
    let named = |set: &berth_model::extension::Capabilities| {
        set.events.as_ref().is_some_and(|events| events.include(&kind))
    };
    let its_app = match event.app {
        Some(app) => live.row.is_for(app),
        None => live.row.apps.is_none(),
    };
    its_app && named(&live.allowed.asked) && named(&live.allowed.granted)
}

fn until_then(at_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(at_ms - now_ms()).unwrap_or(0).max(1))
}

/// A row's kind never changes, and its callable is made for it.
pub(super) fn unreachable_kind<T>() -> berth_extensions::powers::Called<T> {
    berth_extensions::powers::Called {
        result: Err(berth_extensions::powers::CallError::Host(
            "the extension is of another kind".to_owned(),
        )),
        usage: berth_extensions::powers::Usage::default(),
    }
}
