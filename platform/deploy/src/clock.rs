//! Time and new ids: the only place of this crate that reads a clock or random bytes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use berth_model::InstanceId;

use crate::error::DeployError;

/// Unix time that goes on evenly while the process lives: a clock that is set by hand moves no
/// deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
    began_ms: i64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), began_ms: wall_ms() }
    }

    /// Unix milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.began_ms.saturating_add(passed)
    }

    /// When this process began, Unix milliseconds.
    pub(crate) fn began_ms(&self) -> i64 {
        self.began_ms
    }

    /// How long it is until `at_ms`.
    pub(crate) fn until(&self, at_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(at_ms - self.now_ms()).unwrap_or(0))
    }
}

/// What the machine's clock says, Unix milliseconds; for comparing with what the agent wrote.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// An id that was never used.
pub(crate) fn new_instance_id() -> Result<InstanceId, DeployError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| DeployError::Descriptor {
        what: "get random bytes for an id",
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(InstanceId::new(u64::try_from(wall_ms()).unwrap_or(0), random))
}
