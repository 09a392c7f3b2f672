//! When an extension that keeps failing is called no longer.
//!
//! Too many faults within a while make it `degraded`: it rests, for longer each time. Too many
//! rests within a longer while make it `quarantined`, which only a person or another version ends.
//! Failures of the host (network, key-value) are none of its faults and never come here.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The numbers, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerRules {
    /// Faults that make a rest.
    pub faults_max: u32,
    /// Within this time.
    pub faults_within_ms: i64,
    /// The first rest; each one after it is twice as long.
    pub rest_ms_min: i64,
    /// The longest rest.
    pub rest_ms_max: i64,
    /// Rests that make a quarantine.
    pub rests_max: u32,
    /// Within this time.
    pub rests_within_ms: i64,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            faults_max: 5,
            faults_within_ms: 60_000,
            rest_ms_min: 1_000,
            rest_ms_max: 300_000,
            rests_max: 3,
            rests_within_ms: 3_600_000,
        }
    }
}

/// How an extension is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum BreakerState {
    /// It is called.
    Healthy,
    /// It is not called until then.
    Degraded {
        /// Unix milliseconds.
        until_ms: i64,
    },
    /// It is not called until somebody says so.
    Quarantined,
}

/// The memory of one extension's faults; of one digest and, where it matters, one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    rules: BreakerRules,
    state: BreakerState,
    faults: VecDeque<i64>,
    rests: VecDeque<i64>,
}

impl Breaker {
    /// One that saw nothing yet.
    pub fn new(rules: BreakerRules) -> Self {
        Self {
            rules,
            state: BreakerState::Healthy,
            faults: VecDeque::new(),
            rests: VecDeque::new(),
        }
    }

    /// One that was quarantined before.
    pub fn quarantined(rules: BreakerRules) -> Self {
        Self { state: BreakerState::Quarantined, ..Self::new(rules) }
    }

    /// How the extension is treated at a moment.
    pub fn state(&self, now_ms: i64) -> BreakerState {
        match self.state {
            BreakerState::Degraded { until_ms } if now_ms >= until_ms => BreakerState::Healthy,
            state => state,
        }
    }

    /// Whether it may be called.
    pub fn allows(&self, now_ms: i64) -> bool {
        self.state(now_ms) == BreakerState::Healthy
    }

    /// Takes note of a trap or of a limit that was reached; gives the new state when it changed.
    pub fn fault(&mut self, now_ms: i64) -> Option<BreakerState> {
        if !self.allows(now_ms) {
            // A call that was under way when it broke.
            return None;
        }
        forget(&mut self.faults, now_ms - self.rules.faults_within_ms);
        self.faults.push_back(now_ms);
        if self.faults.len() < self.rules.faults_max.max(1) as usize {
            return None;
        }
        self.faults.clear();
        forget(&mut self.rests, now_ms - self.rules.rests_within_ms);
        self.rests.push_back(now_ms);
        let rests = self.rests.len();
        self.state = if rests >= self.rules.rests_max.max(1) as usize {
            BreakerState::Quarantined
        } else {
            let doubled = 1_i64 << (rests - 1).min(30);
            let rest = self.rules.rest_ms_min.saturating_mul(doubled).min(self.rules.rest_ms_max);
            BreakerState::Degraded { until_ms: now_ms.saturating_add(rest) }
        };
        Some(self.state)
    }

    /// Forgets everything: a person said so.
    pub fn resume(&mut self) {
        *self = Self::new(self.rules);
    }
}

fn forget(times: &mut VecDeque<i64>, before_ms: i64) {
    while times.front().is_some_and(|at| *at < before_ms) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trip(breaker: &mut Breaker, at: i64) -> Option<BreakerState> {
        (0..5).filter_map(|index| breaker.fault(at + index)).last()
    }

    #[test]
    fn five_faults_within_a_minute_make_a_rest() {
        let mut breaker = Breaker::new(BreakerRules::default());
        for at in [0, 20_000, 40_000, 59_000] {
            assert_eq!(breaker.fault(at), None);
            assert!(breaker.allows(at));
        }
        assert_eq!(breaker.fault(60_000), Some(BreakerState::Degraded { until_ms: 61_000 }));
        assert!(!breaker.allows(60_999));
        assert!(breaker.allows(61_000));
    }

    #[test]
    fn faults_that_are_far_apart_are_forgiven() {
        let mut breaker = Breaker::new(BreakerRules::default());
        assert!((0..100).all(|index| breaker.fault(index * 20_000).is_none()));
    }

    #[test]
    fn rests_grow_and_the_third_within_an_hour_is_a_quarantine() {
        let mut breaker = Breaker::new(BreakerRules::default());
        assert_eq!(trip(&mut breaker, 0), Some(BreakerState::Degraded { until_ms: 1_004 }));
        assert_eq!(trip(&mut breaker, 10_000), Some(BreakerState::Degraded { until_ms: 12_004 }));
        assert_eq!(trip(&mut breaker, 20_000), Some(BreakerState::Quarantined));
        assert!(!breaker.allows(i64::MAX));
        breaker.resume();
        assert!(breaker.allows(0));
    }

    #[test]
    fn what_was_under_way_when_it_broke_does_not_count_again() {
        let mut breaker = Breaker::new(BreakerRules::default());
        trip(&mut breaker, 0);
        assert!((5..500).all(|at| breaker.fault(at).is_none()));
        assert_eq!(breaker.state(600), BreakerState::Degraded { until_ms: 1_004 });
    }
}
