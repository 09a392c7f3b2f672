//! Alerts: a rule over one measure, and when it turns.
//!
//! Pure: whoever measures gives each value with its period, and is told when the rule is broken for
//! long enough, or is kept again for as long. Between the threshold and a twentieth of it nothing
//! turns, so that a value that swings around the threshold is told once.

use serde::{Deserialize, Serialize};

use crate::{AlertId, AppId};

/// Most rules of a platform.
pub const ALERTS_MAX: u32 = 500;
/// Most rules of one app.
pub const ALERTS_OF_APP_MAX: u32 = 20;
/// Longest time that a rule may have to be broken, milliseconds: a day.
pub const FOR_MS_MAX: i64 = 86_400_000;
/// The part of the threshold that a value has to come back behind it.
const MARGIN: f64 = 0.05;

/// Which values break a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Those above the threshold.
    Above,
    /// Those below it.
    Below,
}

impl Comparison {
    /// The text form used in the database, the API and the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// Of two values the one that is nearer to breaking the rule, or breaks it by more.
    pub fn worse(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Above => one.max(other),
            Self::Below => one.min(other),
        }
    }
}

impl std::str::FromStr for Comparison {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "above" => Ok(Self::Above),
            "below" => Ok(Self::Below),
            _ => Err(format!("'{text}' is not a comparison: above, below")),
        }
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// Whose measure; nothing for the machine's.
    pub app: Option<AppId>,
    /// The name of the measure.
    pub measure: String,
    /// Which values break it.
    pub comparison: Comparison,
    /// The threshold, in the measure's unit.
    pub value: f64,
    /// How long it has to be broken, or kept again, before that is told; milliseconds.
    pub for_ms: i64,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Since when it is told to be broken, Unix milliseconds.
    pub raised_at_ms: Option<i64>,
}

/// What has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The rule is broken, for long enough.
    Raised,
    /// It is kept again.
    Cleared,
}

impl Alert {
    fn is_broken_by(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Above => value > self.value,
            Comparison::Below => value < self.value,
        }
    }

    /// Whether a value is back behind the threshold, and not only just.
    fn is_kept_by(&self, value: f64) -> bool {
        let margin = self.value.abs() * MARGIN;
        match self.comparison {
            Comparison::Above => value <= self.value - margin,
            Comparison::Below => value >= self.value + margin,
        }
    }

    /// Takes what was measured in a period, from its beginning to its end. `since_ms` is what is
    /// remembered of the rule from one period to the next: since when it is about to turn.
    pub fn look(
        &self,
        since_ms: &mut Option<i64>,
        value: Option<f64>,
        from_ms: i64,
        to_ms: i64,
    ) -> Option<Turn> {
        let is_raised = self.raised_at_ms.is_some();
        let turns = match (is_raised, value) {
            (false, value) => value.is_some_and(|value| self.is_broken_by(value)),
            // What is not there any more breaks nothing.
            (true, value) => value.is_none_or(|value| self.is_kept_by(value)),
        };
        if !turns {
            *since_ms = None;
            return None;
        }
        let since = *since_ms.get_or_insert(from_ms);
        if to_ms - since < self.for_ms {
            return None;
        }
        *since_ms = None;
        Some(if is_raised { Turn::Cleared } else { Turn::Raised })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(comparison: Comparison, value: f64, for_ms: i64) -> Alert {
        Alert {
            id: AlertId::new(1, [1; 10]),
            app: None,
            measure: "load".into(),
            comparison,
            value,
            for_ms,
            created_at_ms: 0,
            raised_at_ms: None,
        }
    }

    /// What is told after each value, in periods of 10 seconds.
    fn told(mut alert: Alert, values: &[Option<f64>]) -> String {
        let (mut since, mut told) = (None, String::new());
        for (index, value) in values.iter().enumerate() {
            let from_ms = index as i64 * 10_000;
            let turn = alert.look(&mut since, *value, from_ms, from_ms + 10_000);
            told.push(match turn {
                Some(Turn::Raised) => 'R',
                Some(Turn::Cleared) => 'C',
                None => '.',
            });
            match turn {
                Some(Turn::Raised) => alert.raised_at_ms = Some(from_ms),
                Some(Turn::Cleared) => alert.raised_at_ms = None,
                None => {}
            }
        }
        told
    }

    fn values(text: &[i32]) -> Vec<Option<f64>> {
        text.iter().map(|value| (*value >= 0).then(|| f64::from(*value))).collect()
    }

    #[test]
    fn a_rule_is_told_when_it_is_broken_long_enough_and_again_when_it_is_kept_as_long() {
        let above = || alert(Comparison::Above, 100.0, 30_000);
        assert_eq!(told(above(), &values(&[50, 101, 150, 200, 200, 50, 50, 50])), "...R...C");
        assert_eq!(told(above(), &values(&[101, 101, 100, 101, 101, 101])), ".....R", "from anew");
        assert_eq!(told(above(), &values(&[101, 101, -1, 101, 101])), ".....", "nothing measured");
        let at_once = alert(Comparison::Above, 100.0, 0);
        assert_eq!(told(at_once, &values(&[100, 101, 10, 101])), ".RCR");
        let below = alert(Comparison::Below, 100.0, 20_000);
        assert_eq!(told(below, &values(&[100, 99, 0, 104, 105, 106])), "..R..C");
    }

    #[test]
    fn a_value_that_swings_around_the_threshold_is_told_once() {
        let swings = values(&[101, 99, 101, 99, 96, 101, 96, 101]);
        assert_eq!(told(alert(Comparison::Above, 100.0, 0), &swings), "R.......");
        let falls = values(&[101, 95, 101]);
        assert_eq!(told(alert(Comparison::Above, 100.0, 0), &falls), "RCR", "far enough");
        let zero = values(&[1, 0, 1]);
        assert_eq!(told(alert(Comparison::Above, 0.0, 0), &zero), "RCR", "no margin of nothing");
    }

    #[test]
    fn what_is_gone_breaks_nothing_for_ever() {
        let gone = values(&[101, -1, -1, -1]);
        assert_eq!(told(alert(Comparison::Above, 100.0, 10_000), &gone), "RC..");
    }
}
