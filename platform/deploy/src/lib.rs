//! Release -> running instances.
//!
//! Takes what the store wants of each app and what runs on the hosts, asks the pure planner of
//! `berth_model::rollout` for the next steps and takes them. It keeps nothing that matters in
//! memory: every step is written before it is taken, so that a killed process goes on where it
//! was. It never routes requests, never speaks to the database itself and never decides what a
//! release is.

mod clock;
mod diagnosis;
pub mod drivers;
mod error;
mod logs;
mod probe;
mod progress;
mod reconciler;
pub mod records;
mod session;

pub use drivers::{Embedded, Loaded, WasmHost, WasmLoad};
pub use error::DeployError;
pub use progress::{Follower, Progress};
pub use reconciler::{Reconciler, Settings};
pub use records::{Launch, Records, RecordsError, Routing, Snapshot};
pub use session::{Attached, Command, Master, Streams, TIME_MS_MAX};
