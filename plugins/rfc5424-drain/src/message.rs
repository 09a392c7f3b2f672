//! A message of RFC 5424. Pure: no host, so it is tested where it is built.

use std::collections::BTreeMap;

use serde::Deserialize;

/// How messages are written.
#[derive(Deserialize, Clone, Debug)]
#[serde(default)]
pub(crate) struct Config {
    /// 0 to 23.
    pub(crate) facility: u8,
    /// HOSTNAME; the app's name where there is none.
    pub(crate) hostname: Option<String>,
    /// SD-ID; without one there are no structured data of that name.
    pub(crate) sd_id: Option<String>,
    /// Parameters that every message has.
    pub(crate) sd_params: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { facility: 16, hostname: None, sd_id: None, sd_params: BTreeMap::new() }
    }
}

/// A line.
pub(crate) struct Line<'a> {
    /// The app's name.
    pub(crate) app: &'a str,
    /// `web.1`.
    pub(crate) instance: &'a str,
    /// `stdout`, `stderr` or `system`.
    pub(crate) stream: &'a str,
    /// Unix nanoseconds.
    pub(crate) at_ns: u64,
    /// Position in its log.
    pub(crate) seq: u64,
    /// The text.
    pub(crate) text: &'a str,
    /// What else is known.
    pub(crate) extra: &'a [(String, String)],
}

/// The message of a line.
pub(crate) fn message(config: &Config, line: &Line<'_>) -> Vec<u8> {
    let severity = match line.stream {
        "stderr" => 3,
        "system" => 5,
        _ => 6,
    };
    let hostname = config.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(line.app);
    format!(
        "<{}>1 {} {} {} {} {} {} {}",
        u16::from(config.facility.min(23)) * 8 + severity,
        time(line.at_ns),
        word(hostname, 255),
        word(line.app, 48),
        word(line.instance, 128),
        word(line.stream, 32),
        structured_data(config, line),
        line.text
    )
    .into_bytes()
}

fn structured_data(config: &Config, line: &Line<'_>) -> String {
    let mut data =
        format!("[meta sequenceId=\"{}\"]", line.seq.saturating_sub(1) % 2_147_483_647 + 1);
    let Some(id) = &config.sd_id else { return data };
    let mut params: BTreeMap<String, &str> =
        line.extra.iter().map(|(name, value)| (word(name, 32), value.as_str())).collect();
    params.extend(config.sd_params.iter().map(|(name, value)| (word(name, 32), value.as_str())));
    data.push_str(&format!("[{}", word(id, 32)));
    for (name, value) in params {
        data.push_str(&format!(" {name}=\"{}\"", escaped(value)));
    }
    data.push(']');
    data
}

/// 6.3.3: a backslash before `"`, `\` and `]`.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '"' | '\\' | ']') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// A name of the header or of structured data: printable ASCII without `=`, `]`, `"` and spaces.
fn word(text: &str, bytes_max: usize) -> String {
    let part: String = text
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"') { c } else { '_' })
        .take(bytes_max)
        .collect();
    if part.is_empty() { "-".to_owned() } else { part }
}

/// RFC 3339 in UTC with microseconds.
fn time(at_ns: u64) -> String {
    let seconds = at_ns / 1_000_000_000;
    // Years begin in March here, so that the leap day is the last one.
    let shifted = seconds / 86_400 + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * index + 2) / 5 + 1;
    let month = if index < 10 { index + 3 } else { index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let of_day = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        at_ns % 1_000_000_000 / 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(config: &Config) -> String {
        let extra = [("instance-id".to_owned(), "ins_1".to_owned())];
        let line = Line {
            app: "shop",
            instance: "web.1",
            stream: "stdout",
            at_ns: 1_795_176_123_456_789_012,
            seq: 7,
            text: "hello",
            extra: &extra,
        };
        String::from_utf8(message(config, &line)).expect("text")
    }

    #[test]
    fn a_message_has_the_facility_and_the_names_of_the_configuration() {
        assert_eq!(
            shown(&Config::default()),
            "<134>1 2026-11-20T12:02:03.456789Z shop shop web.1 stdout [meta sequenceId=\"7\"] hello"
        );
        let config =
            Config { facility: 1, hostname: Some("a host".to_owned()), ..Config::default() };
        assert!(shown(&config).starts_with("<14>1 2026-11-20T12:02:03.456789Z a_host shop "));
    }

    #[test]
    fn structured_data_hold_what_is_known_and_values_cannot_end_them() {
        let config = Config {
            sd_id: Some("token@41058".to_owned()),
            sd_params: BTreeMap::from([("t".to_owned(), "a\"]\\b".to_owned())]),
            ..Config::default()
        };
        let text = shown(&config);
        let data = r#"[token@41058 instance-id="ins_1" t="a\"\]\\b"] hello"#;
        assert!(text.ends_with(data), "{text}");
    }
}
