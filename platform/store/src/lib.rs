//! What the platform remembers: SQLite through sqlx, one file per noun.
//!
//! Takes and gives `berth-model` values; nobody else knows that there is a database. Every change
//! is one transaction that also writes one row of `events` (secrets masked); lines of a build log,
//! caches and counters are the exceptions, as they are no changes of what the platform does.
//! Values of configurations are encrypted with a key that is not in the data folder. Statements use
//! `$n`, ids are text and times Unix milliseconds, given by the caller.

mod access;
mod alerts;
mod app_values;
mod apps;
mod backups;
mod buildpacks;
mod builds;
mod by;
mod changes;
mod config;
mod deployments;
mod domains;
mod drains;
mod error;
mod events;
mod extensions;
mod idempotency;
mod images;
mod instances;
mod memo;
mod refusals;
mod releases;
mod revealed;
mod routes;
mod row;
mod seal;
mod stacks;
mod store;
mod sweep;
mod values;
mod volumes;

pub use access::{
    Key, Linked, Membership, NewKey, NewSession, NewToken, NewUser, Owner, SessionLimits, SignedIn,
    Team, Token, User, UserState, Valid, token_hash,
};
pub use alerts::NewAlert;
pub use backups::Backup;
pub use buildpacks::AddedBuildpack;
pub use builds::{BUILD_LOG_BYTES_MAX, BUILD_LOG_LINE_BYTES_MAX, BuildEnd, LogLine};
pub use by::By;
pub use changes::Committed;
pub use config::ConfigVersion;
pub use domains::DomainRow;
pub use drains::{Drain, DrainCounts, DrainCursor, DrainSource, NewDrain};
pub use error::StoreError;
pub use events::{EventFilter, KindFilter, Order, Visible};
pub use extensions::{
    Delivery, Extension, ExtensionLine, ExtensionState, ExtensionVersion, GrantRow,
};
pub use idempotency::{Answer, Claim};
pub use instances::Snapshot;
pub use refusals::Refused;
pub use stacks::Stack;
pub use store::Store;
pub use sweep::Swept;
pub use values::KvError;
