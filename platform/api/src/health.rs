//! How apps do, in one look.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How an app does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppHealth {
    /// The app.
    pub app: String,
    /// Where it stands.
    pub health: HealthState,
    /// Instances that were asked for.
    pub wanted: u32,
    /// Instances that answer; of processes other than `web`, those that run.
    pub ready: u32,
    /// State of the deployment that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}

/// Where an app stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Nothing was deployed yet.
    Empty,
    /// Its first release is on its way.
    Deploying,
    /// Every instance that was asked for is ready.
    Healthy,
    /// Some instances are ready, and some are not.
    Degraded,
    /// No instance is ready.
    Down,
    /// It was stopped, or scaled to nothing.
    Stopped,
}
