//! The host power `metrics`: an extension's own counters and gauges, bounded in number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::powers::{self, MeasureValue};

const NAMES_MAX: usize = 100;
const SERIES_MAX: usize = 1_000;

/// One series as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// What tells it from others of the name, sorted.
    pub labels: Vec<(String, String)>,
    /// Its value; of a counter, since the router started.
    pub value: f64,
    /// Whether it only ever grows.
    pub counter: bool,
}

/// Name and labels.
type Key = (String, Vec<(String, String)>);
/// Value, and whether it only ever grows.
type Series = (f64, bool);

/// The measures of one extension.
#[derive(Default)]
pub(super) struct Measures(Mutex<State>);

#[derive(Default)]
struct State {
    names: BTreeSet<String>,
    series: BTreeMap<Key, Series>,
}

impl Measures {
    /// Adds to a counter, or sets a gauge. Names and values were checked.
    pub(super) fn note(&self, measure: powers::Measure) -> Result<(), String> {
        let powers::Measure { name, labels, value } = measure;
        let (value, counter) = match value {
            MeasureValue::Added(by) => (by, true),
            MeasureValue::Set(to) => (to, false),
        };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = state.series.len() >= SERIES_MAX;
        let names_full = state.names.len() >= NAMES_MAX && !state.names.contains(&name);
        let key = (name, labels);
        if let Some((kept, was_counter)) = state.series.get_mut(&key) {
            *kept = if counter && *was_counter { *kept + value } else { value };
            *was_counter = counter;
            return Ok(());
        }
        if full || names_full {
            return Err(format!("at most {NAMES_MAX} names and {SERIES_MAX} series are kept"));
        }
        state.names.insert(key.0.clone());
        state.series.insert(key, (value, counter));
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<Measure> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .series
            .iter()
            .map(|((name, labels), (value, counter))| Measure {
                name: name.clone(),
                labels: labels.clone(),
                value: *value,
                counter: *counter,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(name: &str, label: usize, value: MeasureValue) -> powers::Measure {
        let labels = vec![("n".to_owned(), label.to_string())];
        powers::Measure { name: name.to_owned(), labels, value }
    }

    #[test]
    fn counters_add_up_and_gauges_are_replaced() {
        let measures = Measures::default();
        let (added, set) = (MeasureValue::Added, MeasureValue::Set);
        for (name, value) in
            [("seen", added(1.0)), ("seen", added(2.0)), ("depth", set(4.0)), ("depth", set(3.0))]
        {
            measures.note(measure(name, 0, value)).unwrap();
        }
        let all = measures.all();
        assert_eq!(
            all.iter().map(|m| (m.value, m.counter)).collect::<Vec<_>>(),
            [(3.0, false), (3.0, true)]
        );
    }

    #[test]
    fn what_an_extension_measures_is_bounded() {
        let measures = Measures::default();
        let note = |name: &str, label: usize| {
            measures.note(measure(name, label, MeasureValue::Added(1.0))).is_ok()
        };
        assert_eq!((0..2 * SERIES_MAX).filter(|n| note("one", *n)).count(), SERIES_MAX);
        assert!(note("one", 0), "what is there can be counted");
        let measures = Measures::default();
        let names = (0..2 * NAMES_MAX).filter(|n| {
            measures.note(measure(&format!("n{n}"), 0, MeasureValue::Set(1.0))).is_ok()
        });
        assert_eq!(names.count(), NAMES_MAX);
    }
}
