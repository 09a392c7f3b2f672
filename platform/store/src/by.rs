//! Who makes a change, from where and when.

use std::net::IpAddr;

use berth_model::{Caller, PrincipalId};

/// The origin of a change, for its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The principal.
    pub principal: PrincipalId,
    /// Its name.
    pub name: String,
    /// Where the call came from.
    pub source_ip: Option<IpAddr>,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The `Idempotency-Key` that the principal gave: the first change keeps its event with it.
    pub once: Option<String>,
    /// Why policies that say no are passed over, where the principal may do so and does.
    pub overrides: Option<String>,
}

impl By {
    /// A call.
    pub fn caller(caller: &Caller, at_ms: i64) -> Self {
        Self {
            principal: caller.principal,
            name: caller.name.clone(),
            source_ip: caller.source_ip,
            at_ms,
            once: None,
            overrides: None,
        }
    }

    /// The platform itself.
    pub fn system(at_ms: i64) -> Self {
        Self {
            principal: system(),
            name: "system".to_owned(),
            source_ip: None,
            at_ms,
            once: None,
            overrides: None,
        }
    }
}

/// The principal of the platform itself, the same everywhere.
pub(crate) fn system() -> PrincipalId {
    PrincipalId::new(0, [0; 10])
}
