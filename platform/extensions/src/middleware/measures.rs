//! The host power `metrics`: an extension's own counters and gauges, bounded in number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

const NAMES_MAX: usize = 100;
const SERIES_MAX: usize = 1_000;
const LABELS_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 100;
const LABEL_BYTES_MAX: usize = 200;

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

/// The measures of one extension.
#[derive(Default)]
pub(super) struct Measures(Mutex<State>);

#[derive(Default)]
struct State {
    names: BTreeSet<String>,
    series: BTreeMap<(String, Vec<(String, String)>), (f64, bool)>,
}

impl Measures {
    /// Adds to a counter, or sets a gauge.
    pub(super) fn note(
        &self,
        name: String,
        value: f64,
        mut labels: Vec<(String, String)>,
        counter: bool,
    ) -> Result<(), String> {
        if !is_name(&name) || !labels.iter().all(|(name, _)| is_name(name)) {
            return Err(format!(
                "a name is a letter and then letters, digits and underscores, {NAME_BYTES_MAX} at most"
            ));
        }
        if labels.len() > LABELS_MAX || labels.iter().any(|(_, text)| text.len() > LABEL_BYTES_MAX) {
            return Err(format!("use {LABELS_MAX} labels of {LABEL_BYTES_MAX} bytes at most"));
        }
        if !value.is_finite() || (counter && value < 0.0) {
            return Err("a counter only grows, and no value is infinite".to_owned());
        }
        labels.sort();
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

fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_and_gauges_are_replaced() {
        let measures = Measures::default();
        let label = |value: &str| vec![("code".to_owned(), value.to_owned())];
        for (name, value, counter) in
            [("seen", 1.0, true), ("seen", 2.0, true), ("depth", 4.0, false), ("depth", 3.0, false)]
        {
            measures.note(name.to_owned(), value, label("a"), counter).unwrap();
        }
        let all = measures.all();
        assert_eq!(all.iter().map(|m| m.value).collect::<Vec<_>>(), [3.0, 3.0]);
    }

    #[test]
    fn what_an_extension_measures_is_bounded() {
        let measures = Measures::default();
        let note = |name: String, label: usize| {
            measures.note(name, 1.0, vec![("n".to_owned(), label.to_string())], true).is_ok()
        };
        assert_eq!((0..2 * SERIES_MAX).filter(|n| note("one".to_owned(), *n)).count(), SERIES_MAX);
        assert!(note("one".to_owned(), 0), "what is there can be counted");
        let measures = Measures::default();
        let names = (0..2 * NAMES_MAX)
            .filter(|n| measures.note(format!("n{n}"), 1.0, vec![], true).is_ok());
        assert_eq!(names.count(), NAMES_MAX);
        for bad in ["", "1a", "a-b", "a b", "é"] {
            assert!(measures.note(bad.to_owned(), 1.0, vec![], true).is_err(), "{bad}");
        }
        assert!(measures.note("n1".to_owned(), f64::NAN, vec![], false).is_err());
        assert!(measures.note("n1".to_owned(), -1.0, vec![], true).is_err());
    }
}
