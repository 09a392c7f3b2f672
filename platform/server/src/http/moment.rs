//! Points in time that people write: RFC 3339, a day, or how long ago.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime};

/// Longest text.
const BYTES_MAX: usize = 40;
/// Longest time ago, 100 years.
const AGO_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Unix milliseconds. `2h` and `1d12h` are before `now_ms`; a day begins at midnight UTC; the rest is
/// RFC 3339, section 5.6, of which what is below a millisecond is cut off.
///
/// # Errors
/// What to write instead.
pub(super) fn moment(text: &str, now_ms: i64) -> Result<i64, String> {
    let found = Some(text).filter(|text| text.len() <= BYTES_MAX);
    let found = found.and_then(|text| {
        ago_ms(text).map(|ago| now_ms - ago).or_else(|| day_ms(text)).or_else(|| time_ms(text))
    });
    found.ok_or_else(|| {
        "use a time like 2026-01-31T12:00:00Z, a day like 2026-01-31, or how long ago: 30s, 15m, \
         2h, 7d"
            .to_owned()
    })
}

fn ago_ms(text: &str) -> Option<i64> {
    let ago = humantime::parse_duration(text).ok().filter(|ago| *ago <= AGO_MAX)?;
    i64::try_from(ago.as_millis()).ok()
}

fn day_ms(text: &str) -> Option<i64> {
    let day: NaiveDate = text.parse().ok()?;
    Some(day.and_time(NaiveTime::MIN).and_utc().timestamp_millis())
}

fn time_ms(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_769_860_800_000; // 2026-01-31T12:00:00Z

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, ms) in [
            ("0s", NOW_MS),
            ("30s", NOW_MS - 30_000),
            ("2h", NOW_MS - 7_200_000),
            ("1d12h", NOW_MS - 129_600_000),
            ("2026-01-31", NOW_MS - 43_200_000),
            ("2026-01-31T12:00:00Z", NOW_MS),
            ("2026-01-31 12:00:00z", NOW_MS),
            ("2026-01-31T12:00:00.5Z", NOW_MS + 500),
            ("2026-01-31T12:00:00.123456789Z", NOW_MS + 123),
            ("2026-01-31T14:30:00+02:30", NOW_MS),
            ("2026-01-31T11:00:00-01:00", NOW_MS),
        ] {
            assert_eq!(moment(text, NOW_MS), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2",
            "h",
            "2x",
            "-2h",
            "2h3",
            "99999999999999999999d",
            "99999d99999d",
            "yesterday",
            "2026-02-30",
            "2026-01-31T25:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00.5",
            "2026-01-31T12:00:00+2:00",
            "2026-01-31T12:00:00+25:00",
            "2026-01-3\u{e9}",
            "2026-01-31T12:00:00.00000000000000000000000000000000000Z",
        ] {
            assert!(moment(text, NOW_MS).is_err(), "{text}");
        }
    }
}
