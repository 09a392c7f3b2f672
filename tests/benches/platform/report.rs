//! What was measured: rows with samples, and marks that they meet or miss.
//!
//! Printed for people as a table, with `--json` as one document. A mark is a number that the
//! median must not exceed, or must reach; a goal is compared as well, but missing it is no failure.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Everything that one bench measured.
pub(crate) struct Report {
    bench: &'static str,
    rows: Vec<Row>,
}

/// One measured thing.
struct Row {
    what: String,
    unit: &'static str,
    samples: Vec<f64>,
    bound: Option<Bound>,
    /// A row that says where the time of the one before goes.
    detail: bool,
}

/// What a median is compared with.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// More than this fails the bench.
    Mark(f64),
    /// More than this is told.
    Goal(f64),
    /// Less than this fails the bench.
    Least(f64),
}

impl Report {
    pub(crate) fn new(bench: &'static str) -> Self {
        Self { bench, rows: Vec::new() }
    }

    /// A row without a bound, for comparison.
    pub(crate) fn row(&mut self, what: impl Into<String>, unit: &'static str, samples: Vec<f64>) {
        self.push(what.into(), unit, samples, None, false);
    }

    /// A row whose median must keep to a bound.
    pub(crate) fn bounded(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        samples: Vec<f64>,
        bound: Bound,
    ) {
        self.push(what.into(), unit, samples, Some(bound), false);
    }

    /// A part of the row before.
    pub(crate) fn detail(&mut self, what: impl Into<String>, unit: &'static str, value: f64) {
        self.push(what.into(), unit, vec![value], None, true);
    }

    fn push(
        &mut self,
        what: String,
        unit: &'static str,
        samples: Vec<f64>,
        bound: Option<Bound>,
        detail: bool,
    ) {
        self.rows.push(Row { what, unit, samples, bound, detail });
    }

    /// Whether every mark was met.
    pub(crate) fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.outcome() != Some("FAIL"))
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.what.chars().count() + 2).max().unwrap_or(0);
        let mut text = format!("bench {}\n", self.bench);
        for row in &self.rows {
            let indent = if row.detail { "    " } else { "  " };
            let _ = write!(text, "{indent}{:<width$}", row.what, width = width + 4 - indent.len());
            let _ = write!(text, "{:>9} {:<3}", figure(row.median()), row.unit);
            if row.samples.len() > 1 {
                let (least, most) = row.range();
                let count = row.samples.len();
                let _ = write!(text, "  {} to {} in {count}", figure(least), figure(most));
            }
            if let (Some(bound), Some(outcome)) = (row.bound, row.outcome()) {
                let _ = write!(text, "  {} {}: {outcome}", bound.name(), figure(bound.value()));
            }
            text.push('\n');
        }
        text
    }

    /// The same as data.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let (mark, goal, least) = match row.bound {
                    Some(Bound::Mark(most)) => (Some(most), None, None),
                    Some(Bound::Goal(most)) => (None, Some(most), None),
                    Some(Bound::Least(least)) => (None, None, Some(least)),
                    None => (None, None, None),
                };
                json!({
                    "what": row.what, "unit": row.unit, "detail": row.detail,
                    "median": row.median(), "samples": row.samples,
                    "mark": mark, "goal": goal, "least": least, "outcome": row.outcome(),
                })
            })
            .collect();
        json!({ "bench": self.bench, "passed": self.passed(), "rows": rows })
    }
}

impl Bound {
    fn value(self) -> f64 {
        match self {
            Self::Mark(bound) | Self::Goal(bound) | Self::Least(bound) => bound,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mark(_) => "at most",
            Self::Goal(_) => "goal",
            Self::Least(_) => "at least",
        }
    }
}

impl Row {
    fn median(&self) -> f64 {
        median(&self.samples)
    }

    fn range(&self) -> (f64, f64) {
        self.samples.iter().fold((f64::INFINITY, 0.0), |(least, most), sample| {
            (least.min(*sample), most.max(*sample))
        })
    }

    fn outcome(&self) -> Option<&'static str> {
        self.bound.map(|bound| match bound {
            Bound::Least(least) if self.median() >= least => "pass",
            Bound::Mark(most) | Bound::Goal(most) if self.median() <= most => "pass",
            Bound::Mark(_) | Bound::Least(_) => "FAIL",
            Bound::Goal(_) => "missed",
        })
    }
}

/// The middle one; of an even number the mean of the two in the middle. Nothing measured is worse
/// than any bound.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => f64::INFINITY,
        sorted => {
            let middle = sorted.len() / 2;
            let below = if sorted.len() % 2 == 0 { middle - 1 } else { middle };
            f64::midpoint(sorted[below], sorted[middle])
        }
    }
}

/// Three digits that say something.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
