//! Looks at every alert's rule after each period.
//!
//! What is remembered from one period to the next is how long a rule is about to turn; whether it
//! is raised is in the database. A platform that was away begins to count anew, and tells nothing twice.

use std::collections::HashMap;

use berth_model::alert::Alert;
use berth_model::principal::Visible;
use berth_model::{AlertId, InstanceId};
use berth_store::{By, Store, StoreError};

use super::Named;
use super::fields::{self, APP, APP_WIDTH, HOST, INSTANCE};
use super::sample::Sample;

/// Rules that are looked at; there are no more.
const RULES_MAX: u32 = berth_model::alert::ALERTS_MAX;

/// How long each rule is about to turn.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    since_ms: HashMap<AlertId, Option<i64>>,
}

/// A period, Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Period {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

impl Watch {
    /// Looks at every rule, and writes events of those that turn.
    pub(crate) async fn look(
        &mut self,
        store: &Store,
        sample: &Sample,
        names: &HashMap<InstanceId, Named>,
        period: Period,
    ) -> Result<(), StoreError> {
        let alerts = store.alerts(Visible::All, None, None, RULES_MAX).await?;
        self.since_ms.retain(|id, _| alerts.iter().any(|alert| alert.id == *id));
        for alert in alerts {
            let found = measured(&alert, sample, names, period);
            let value = found.as_ref().map(|(value, _)| *value);
            let since_ms = self.since_ms.entry(alert.id).or_default();
            if let Some(turn) = alert.look(since_ms, value, period.from_ms, period.to_ms) {
                let instance = found.and_then(|(_, instance)| instance);
                let by = By::system(period.to_ms);
                store.turn_alert(&alert, turn, value, instance.as_deref(), &by).await?;
            }
        }
        Ok(())
    }
}

/// The value that counts, and the instance that it is of.
fn measured(
    alert: &Alert,
    sample: &Sample,
    names: &HashMap<InstanceId, Named>,
    period: Period,
) -> Option<(f64, Option<String>)> {
    let Some(app) = alert.app else {
        let own = |field: &fields::Field| field.process.is_none() && field.name == alert.measure;
        let index = HOST.iter().position(own)?;
        return Some((sample.host.get(index).copied().flatten()?, None));
    };
    if APP.iter().any(|(name, _)| *name == alert.measure) {
        let counts: Vec<f64> = match sample.apps.iter().find(|(id, _)| *id == app) {
            Some((_, values)) => values.iter().map(|value| value.unwrap_or(0.0)).collect(),
            // The router was asked, and there were none.
            None if sample.host.last().copied().flatten().is_some() => vec![0.0; APP_WIDTH],
            None => return None,
        };
        let seconds = (period.to_ms - period.from_ms) as f64 / 1000.0;
        return Some((fields::of_app(&alert.measure, &counts, seconds)?, None));
    }
    let index = INSTANCE.iter().position(|field| field.name == alert.measure)?;
    let own = sample.instances.iter().filter_map(|(id, values)| {
        let named = names.get(id).filter(|named| named.app == app)?;
        Some((values[index]?, Some(format!("{}.{}", named.process, named.slot))))
    });
    own.reduce(
        |one, other| {
            if alert.comparison.worse(one.0, other.0) == one.0 { one } else { other }
        },
    )
}
