//! When an instance whose process ended is started again. Pure: time and chance are passed in.

use std::time::Duration;

/// Wait before the first restart; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// A process that ran this long starts the row anew.
const STEADY: Duration = Duration::from_secs(600);

/// The row of restarts of one instance.
#[derive(Debug, Default, Clone)]
pub(crate) struct Backoff {
    in_a_row: u32,
}

impl Backoff {
    /// How long to wait after a process that ran for `ran`. `chance` (any number) spreads the wait
    /// by 20 % to either side, so that many instances do not start at one moment.
    pub(crate) fn after(&mut self, ran: Duration, chance: u64) -> Duration {
        if ran >= STEADY {
            self.in_a_row = 0;
        }
        let wait = FIRST.saturating_mul(1 << self.in_a_row.min(16)).min(LONGEST);
        self.in_a_row += 1;
        let permille = 800 + u32::try_from(chance % 401).unwrap_or(0);
        wait * permille / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_five_minutes_within_a_fifth() {
        let mut backoff = Backoff::default();
        let waits: Vec<f64> =
            (0..12).map(|_| backoff.after(Duration::ZERO, 200).as_secs_f64()).collect();
        assert_eq!(waits[..4], [1.0, 2.0, 4.0, 8.0]);
        assert_eq!(waits[11], 300.0);
        for chance in [0, 17, 400, u64::MAX] {
            let wait = Backoff::default().after(Duration::ZERO, chance).as_secs_f64();
            assert!((0.8..=1.2).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn ten_steady_minutes_begin_the_row_again() {
        let mut backoff = Backoff::default();
        for _ in 0..6 {
            backoff.after(Duration::ZERO, 200);
        }
        assert_eq!(backoff.after(STEADY, 200), FIRST);
        assert_eq!(backoff.after(STEADY - Duration::from_millis(1), 200), FIRST * 2);
    }
}
