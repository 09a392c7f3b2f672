//! Points in time that people write: RFC 3339, a day, or how long ago.

use berth_api::Timestamp;

/// Longest text.
const BYTES_MAX: usize = 40;
/// Longest time ago, 100 years.
const AGO_S_MAX: i64 = 100 * 365 * 86_400;

/// Unix milliseconds. `2h` and `1d12h` are before `now_ms`; a day begins at midnight UTC.
///
/// # Errors
/// What to write instead.
pub(super) fn moment(text: &str, now_ms: i64) -> Result<i64, String> {
    let found = Some(text).filter(|text| text.len() <= BYTES_MAX && text.is_ascii());
    let found = found.and_then(|text| match ago(text) {
        Some(seconds) => Some(now_ms - seconds * 1000),
        None => rfc3339(text),
    });
    found.ok_or_else(|| {
        "use a time like 2026-01-31T12:00:00Z, a day like 2026-01-31, or how long ago: 30s, 15m, \
         2h, 7d"
            .to_owned()
    })
}

/// Seconds of a length like `1d12h`.
fn ago(text: &str) -> Option<i64> {
    let (mut sum, mut number) = (0_i64, None::<i64>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            let more = number.unwrap_or(0).checked_mul(10)?.checked_add(i64::from(digit))?;
            number = Some(more);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return None,
        };
        sum = number.take()?.checked_mul(unit)?.checked_add(sum)?;
    }
    (!text.is_empty() && number.is_none() && sum <= AGO_S_MAX).then_some(sum)
}

/// RFC 3339, section 5.6; what is below a millisecond is cut off.
fn rfc3339(text: &str) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    if rest.is_empty() {
        return format!("{day}T00:00:00.000Z").parse().ok().map(|Timestamp(ms)| ms);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (fraction, zone) = rest.split_at(end);
            (Some(fraction).filter(|digits| !digits.is_empty())?, zone)
        }
        None => ("0", rest),
    };
    let millis = &format!("{fraction}00")[..3];
    let Timestamp(local) = format!("{day}T{time}.{millis}Z").parse().ok()?;
    Some(local - offset_ms(zone)?)
}

/// How far a zone is ahead of UTC.
fn offset_ms(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (ahead, rest) = match (zone.strip_prefix('+'), zone.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (None, Some(rest)) => (-1, rest),
        (None, None) => return None,
    };
    let number = |text: &str, below: i64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| digits && *number < below)
    };
    let (hours, minutes) = rest.split_once(':')?;
    Some(ahead * (number(hours, 24)? * 60 + number(minutes, 60)?) * 60_000)
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
