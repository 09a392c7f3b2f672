//! Lines as messages: RFC 5424, JSON lines; and messages as they stand in a stream.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FRAME_BYTES_MAX, SinkKind, gelf};

/// A line on its way to a sink. Processors may have changed every part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The app's name.
    pub app: String,
    /// The process type: `web`.
    pub process: String,
    /// `web.1`.
    pub instance: String,
    /// `stdout`, `stderr` or `system`.
    pub stream: String,
    /// Unix nanoseconds.
    pub at_ns: u64,
    /// Position within the container that wrote it.
    pub seq: u64,
    /// The text without its line end.
    pub line: String,
    /// The next entry of the same instance and stream goes on with the line.
    pub partial: bool,
    /// What else is known: `instance-id`, and what processors added.
    pub extra: Vec<(String, String)>,
}

impl Entry {
    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let extra: usize =
            self.extra.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        128 + self.app.len() + self.process.len() + self.instance.len() + self.line.len() + extra
    }
}

/// The host's own form of the messages of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 5424.
    Syslog,
    /// GELF 1.1.
    Gelf,
    /// A JSON object.
    Json,
}

impl Format {
    /// What a sink expects.
    pub const fn of(kind: SinkKind) -> Self {
        match kind {
            SinkKind::SyslogUdp | SinkKind::SyslogTcp | SinkKind::SyslogTls => Self::Syslog,
            SinkKind::GelfUdp | SinkKind::GelfTcp => Self::Gelf,
            SinkKind::Https => Self::Json,
        }
    }

    /// One message. `host` names this machine.
    pub fn message(self, entry: &Entry, host: &str) -> Vec<u8> {
        match self {
            Self::Syslog => rfc5424(entry, host),
            Self::Gelf => gelf(entry, host),
            Self::Json => json_line(entry),
        }
    }
}

/// Severity (RFC 5424 table 2): errors are what a process calls errors; nobody knows better.
pub(super) fn severity(stream: &str) -> u8 {
    match stream {
        "stderr" => 3,
        "system" => 5,
        _ => 6,
    }
}

/// A part of the header: printable ASCII without spaces, at most so long, `-` for nothing.
fn header(text: &str, bytes_max: usize) -> String {
    let part: String =
        text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(bytes_max).collect();
    if part.is_empty() { "-".to_owned() } else { part }
}

/// A message of RFC 5424 (6): facility `user`; HOSTNAME is the machine, APP-NAME the app, PROCID the
/// instance (`web.1`), MSGID the stream; `meta sequenceId` is the entry's position, which with the
/// time and PROCID tells a line that was sent twice. The text has no byte order mark, as receivers
/// take that for a part of it.
pub fn rfc5424(entry: &Entry, host: &str) -> Vec<u8> {
    const USER: u8 = 1;
    // RFC 5424 7.3.1: from 1 to 2147483647, and from 1 again.
    let sequence = entry.seq.saturating_sub(1) % 2_147_483_647 + 1;
    format!(
        "<{}>1 {} {} {} {} {} [meta sequenceId=\"{sequence}\"] {}",
        USER * 8 + severity(&entry.stream),
        rfc3339(entry.at_ns),
        header(host, 255),
        header(&entry.app, 48),
        header(&entry.instance, 128),
        header(&entry.stream, 32),
        entry.line
    )
    .into_bytes()
}

/// A JSON object in one line, without its end.
pub fn json_line(entry: &Entry) -> Vec<u8> {
    let mut object = Map::new();
    for (name, value) in &entry.extra {
        object.insert(name.clone(), Value::from(value.as_str()));
    }
    for (name, value) in [
        ("at", Value::from(rfc3339(entry.at_ns))),
        ("app", entry.app.as_str().into()),
        ("process", entry.process.as_str().into()),
        ("instance", entry.instance.as_str().into()),
        ("stream", entry.stream.as_str().into()),
        ("seq", entry.seq.into()),
        ("line", entry.line.as_str().into()),
    ] {
        object.insert(name.to_owned(), value);
    }
    if entry.partial {
        object.insert("partial".to_owned(), true.into());
    }
    Value::Object(object).to_string().into_bytes()
}

/// RFC 3339 in UTC with microseconds, the most that RFC 5424 (6.2.3) allows.
pub(super) fn rfc3339(at_ns: u64) -> String {
    let seconds = at_ns / 1_000_000_000;
    let (year, month, day) = date(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        at_ns % 1_000_000_000 / 1000
    )
}

/// Year, month and day of a day since 1970 in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day is the last one.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * index + 2) / 5 + 1;
    let month = if index < 10 { index + 3 } else { index - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// A message that cannot be sent to a sink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too long.
    #[error("a message of {0} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// It has nothing.
    #[error("a message is empty")]
    Empty,
    /// It has the byte that ends it.
    #[error("a message of this sink cannot hold the byte {0:#04x}")]
    Delimiter(u8),
}

/// A message as it stands in the sink's stream: octet counting (RFC 6587 3.4.1), a null byte after
/// it (GELF), a line end after it (JSON lines); as it is in a datagram.
///
/// # Errors
/// What the form cannot carry.
pub fn framed(kind: SinkKind, message: &[u8]) -> Result<Vec<u8>, FrameError> {
    if message.is_empty() {
        return Err(FrameError::Empty);
    }
    if message.len() > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(message.len()));
    }
    let ended = |delimiter: u8| {
        if message.contains(&delimiter) {
            return Err(FrameError::Delimiter(delimiter));
        }
        Ok([message, &[delimiter]].concat())
    };
    match kind {
        SinkKind::SyslogUdp | SinkKind::GelfUdp => Ok(message.to_vec()),
        SinkKind::SyslogTcp | SinkKind::SyslogTls => {
            Ok([format!("{} ", message.len()).as_bytes(), message].concat())
        }
        SinkKind::GelfTcp => ended(0),
        SinkKind::Https => ended(b'\n'),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::drain) fn entry(line: &str) -> Entry {
        Entry {
            app: "shop".into(),
            process: "web".into(),
            instance: "web.1".into(),
            stream: "stdout".into(),
            at_ns: 1_795_176_123_456_789_012,
            seq: 7,
            line: line.into(),
            partial: false,
            extra: vec![("instance-id".into(), "ins_1".into())],
        }
    }

    #[test]
    fn a_line_is_a_message_of_rfc_5424() {
        assert_eq!(
            String::from_utf8(rfc5424(&entry("hello wörld"), "one")).unwrap(),
            "<14>1 2026-11-20T12:02:03.456789Z one shop web.1 stdout [meta sequenceId=\"7\"] hello wörld"
        );
        let error = Entry { stream: "stderr".into(), seq: 2_147_483_648, ..entry("") };
        let text = String::from_utf8(rfc5424(&error, "")).unwrap();
        assert!(text.starts_with("<11>1 ") && text.contains("Z - shop "), "{text}");
        assert!(text.ends_with("stderr [meta sequenceId=\"1\"] "), "{text}");
    }

    #[test]
    fn what_a_processor_made_of_a_header_stays_one_word_each() {
        let odd = Entry { app: "a b\n<1>".into(), instance: "ä".repeat(200), ..entry("x") };
        let text = String::from_utf8(rfc5424(&odd, "h")).unwrap();
        assert!(text.contains(&format!(" a_b_<1> {} stdout ", "_".repeat(128))), "{text}");
    }

    #[test]
    fn a_line_is_a_json_object_in_one_line_and_processors_add_to_it_but_replace_nothing() {
        let mut more = entry("a\n\"b\"");
        more.extra.push(("app".into(), "other".into()));
        more.partial = true;
        let json: Value = serde_json::from_slice(&json_line(&more)).unwrap();
        assert_eq!(json["app"], "shop");
        assert_eq!(json["line"], "a\n\"b\"");
        assert_eq!(json["at"], "2026-11-20T12:02:03.456789Z");
        assert_eq!(json["instance-id"], "ins_1");
        assert_eq!(json["partial"], true);
        assert!(!json_line(&more).contains(&b'\n'));
    }

    #[test]
    fn messages_are_framed_as_their_stream_wants() {
        assert_eq!(framed(SinkKind::SyslogTcp, b"ab").unwrap(), b"2 ab");
        assert_eq!(framed(SinkKind::SyslogUdp, b"ab").unwrap(), b"ab");
        assert_eq!(framed(SinkKind::GelfTcp, b"ab").unwrap(), b"ab\0");
        assert_eq!(framed(SinkKind::Https, b"ab").unwrap(), b"ab\n");
        assert_eq!(framed(SinkKind::GelfTcp, b"a\0b"), Err(FrameError::Delimiter(0)));
        assert_eq!(framed(SinkKind::Https, b"a\nb"), Err(FrameError::Delimiter(b'\n')));
        assert_eq!(framed(SinkKind::SyslogTls, b""), Err(FrameError::Empty));
        assert!(framed(SinkKind::SyslogTls, &vec![b'x'; FRAME_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000_000), text);
        }
    }
}
