//! When an event that a hook did not take is offered again, and when no more.

use serde::{Deserialize, Serialize};

/// The numbers, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryRules {
    /// The first wait; each one after it is twice as long.
    pub wait_ms_min: i64,
    /// The longest wait.
    pub wait_ms_max: i64,
    /// Tries.
    pub attempts_max: u32,
    /// From the event to the last try.
    pub age_ms_max: i64,
}

impl Default for DeliveryRules {
    fn default() -> Self {
        Self {
            wait_ms_min: 1_000,
            wait_ms_max: 600_000,
            attempts_max: 20,
            age_ms_max: 24 * 3_600_000,
        }
    }
}

/// What follows a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another one, not before then (Unix milliseconds).
    At(i64),
    /// None: it is a dead letter, until somebody replays it.
    Dead,
}

impl DeliveryRules {
    /// After the try number `attempt` (from 1) failed. `random` in 0..=1 spreads the waits over
    /// half to the whole of their length, so that many hooks do not come back at once.
    pub fn after(&self, attempt: u32, event_at_ms: i64, now_ms: i64, random: f64) -> Next {
        if attempt >= self.attempts_max || now_ms - event_at_ms >= self.age_ms_max {
            return Next::Dead;
        }
        let doubled = 1_i64 << attempt.saturating_sub(1).min(30);
        let wait = self.wait_ms_min.saturating_mul(doubled).min(self.wait_ms_max);
        let spread = (wait as f64 * (0.5 + 0.5 * random.clamp(0.0, 1.0))) as i64;
        Next::At(now_ms.saturating_add(spread.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_minutes() {
        let rules = DeliveryRules::default();
        let waits: Vec<_> = (1..=12)
            .map(|attempt| match rules.after(attempt, 0, 0, 1.0) {
                Next::At(at) => at,
                Next::Dead => -1,
            })
            .collect();
        assert_eq!(waits[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(waits[11], 600_000);
    }

    #[test]
    fn a_wait_is_at_least_half_its_length() {
        assert_eq!(DeliveryRules::default().after(1, 0, 0, 0.0), Next::At(500));
    }

    #[test]
    fn an_event_dies_after_twenty_tries_or_a_day() {
        let rules = DeliveryRules::default();
        assert_eq!(rules.after(20, 0, 0, 0.5), Next::Dead);
        assert_eq!(rules.after(1, 0, 24 * 3_600_000, 0.5), Next::Dead);
        assert_ne!(rules.after(19, 0, 1, 0.5), Next::Dead);
    }
}
