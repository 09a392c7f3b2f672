//! Section `measures` of the operator's file.

use berth_measures::Span;
use serde::Deserialize;

/// How often is measured, for how long it is kept, and of how many things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct MeasuresConfig {
    /// As it is measured.
    pub fine: Span,
    /// What is kept for long.
    pub coarse: Span,
    /// Apps with requests that are kept at one time.
    pub apps_max: u32,
    /// Instances that are kept at one time, those that ended among them.
    pub instances_max: u32,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    period_ms: u32,
    kept_ms: u64,
    long_period_ms: u32,
    long_kept_ms: u64,
    apps_max: u32,
    instances_max: u32,
}

/// Periods that are possible, milliseconds.
const PERIOD_MS: std::ops::RangeInclusive<u32> = 100..=3_600_000;
/// Most records of one thing in one resolution.
const RECORDS_MAX: u64 = 1_000_000;
/// Most apps, and most instances.
const THINGS_MAX: u32 = 100_000;

impl Default for Written {
    fn default() -> Self {
        Self {
            period_ms: 10_000,
            kept_ms: 86_400_000,
            long_period_ms: 300_000,
            long_kept_ms: 30 * 86_400_000,
            apps_max: 256,
            instances_max: 512,
        }
    }
}

impl Default for MeasuresConfig {
    fn default() -> Self {
        let span = |period_ms, kept_ms| Span { period_ms, records: kept_ms / period_ms };
        Self {
            fine: span(10_000, 86_400_000),
            coarse: span(300_000, 30 * 86_400_000),
            apps_max: 256,
            instances_max: 512,
        }
    }
}

impl TryFrom<Written> for MeasuresConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let span = |name: &str, period_ms: u32, kept_ms: u64| {
            if !PERIOD_MS.contains(&period_ms) {
                return Err(format!("{name} {period_ms} is not between 100 and 3600000"));
            }
            let records = kept_ms / u64::from(period_ms);
            match u32::try_from(records) {
                Ok(count) if (2..=RECORDS_MAX).contains(&records) => {
                    Ok(Span { period_ms, records: count })
                }
                _ => Err(format!(
                    "{name} {period_ms} in {kept_ms} ms makes {records} records; 2 to {RECORDS_MAX} are possible"
                )),
            }
        };
        let fine = span("period_ms", written.period_ms, written.kept_ms)?;
        let coarse = span("long_period_ms", written.long_period_ms, written.long_kept_ms)?;
        let ratio = coarse.period_ms / fine.period_ms;
        if coarse.period_ms % fine.period_ms != 0 || ratio == 0 || ratio >= fine.records {
            return Err(format!(
                "long_period_ms {} is not a multiple of period_ms {} that is shorter than kept_ms",
                coarse.period_ms, fine.period_ms
            ));
        }
        let (apps_max, instances_max) = (written.apps_max, written.instances_max);
        if !(1..=THINGS_MAX).contains(&apps_max) || !(1..=THINGS_MAX).contains(&instances_max) {
            return Err(format!("apps_max and instances_max are 1 to {THINGS_MAX}"));
        }
        Ok(Self { fine, coarse, apps_max, instances_max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_a_day_at_ten_seconds_and_a_month_at_five_minutes() {
        let config: MeasuresConfig = toml::from_str("").unwrap();
        assert_eq!(config, MeasuresConfig::default());
        assert_eq!((config.fine.period_ms, config.fine.records), (10_000, 8_640));
        assert_eq!((config.coarse.period_ms, config.coarse.records), (300_000, 8_640));
    }

    #[test]
    fn what_cannot_be_is_an_error_that_says_what() {
        for (text, word) in [
            ("period_ms = 5", "period_ms 5"),
            ("period_ms = 7000", "multiple"),
            ("kept_ms = 0", "0 records"),
            ("long_kept_ms = 99999999999999", "records"),
            ("apps_max = 0", "apps_max"),
            ("instances_max = 100001", "instances_max"),
            ("kept_ms = 300000", "multiple"),
            ("periode_ms = 1000", "periode_ms"),
        ] {
            let error = toml::from_str::<MeasuresConfig>(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
