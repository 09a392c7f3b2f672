//! What was measured.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// What was measured in a span of time: points in time, and for each series one value at each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasuresView {
    /// The beginning of the first step.
    pub from: Timestamp,
    /// The end of the last step.
    pub to: Timestamp,
    /// Milliseconds from one point to the next.
    pub step_ms: u64,
    /// The beginning of each step, Unix milliseconds; 1,000 at most.
    pub timestamps: Vec<i64>,
    /// In the order of their names as they are documented, then by process and instance.
    pub series: Vec<MeasureSeries>,
}

/// One measure of one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasureSeries {
    /// What was measured: `cpu`, `memory`, `requests`, `latency_p95`.
    pub name: String,
    /// `cores`, `s/s`, `B`, `B/s`, `1/s`, `ms`, or `1` for numbers and parts of one. What is counted
    /// without `/s` is so many in one step.
    pub unit: String,
    /// The process type that it is of, or the program of the platform; absent for what is of the
    /// whole app or machine.
    pub process: Option<String>,
    /// The instance: `web.1`. One that takes the place of another goes on with its series, and while
    /// both are there their values are added.
    pub instance: Option<String>,
    /// One for each timestamp; null where nothing was measured.
    pub values: Vec<Option<f64>>,
}
