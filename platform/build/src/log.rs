//! The log of a build in the form that Heroku's users know: `-----> ` headings, a body that is
//! indented by seven columns, ` !     ` before what went wrong.
//!
//! Control characters are escaped, because the lines reach terminals. Values of the app's
//! configuration that look like secrets are masked. Lines and bytes are bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use berth_model::text::printable;

/// Longest line; the rest of it is dropped.
const LINE_BYTES_MAX: usize = 4096;
/// Most bytes of a log.
const BYTES_MAX: u64 = 16 << 20;
/// Shorter values are no secrets, and masking them would mangle words.
const SECRET_BYTES_MIN: usize = 8;
/// Values this long are masked whatever their name is.
const SECRET_BYTES_SURE: usize = 20;
/// Parts of names whose values are secrets.
const SECRET_NAMES: [&str; 8] =
    ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "KEY", "CREDENTIAL", "AUTH", "DSN"];

/// Where the lines of a build go, ready to be shown.
pub trait Log: Send + Sync + 'static {
    /// One line without its end.
    fn line(&self, text: &str);
}

impl<F: Fn(&str) + Send + Sync + 'static> Log for F {
    fn line(&self, text: &str) {
        self(text);
    }
}

/// Writes lines. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BuildLog {
    out: Arc<dyn Log>,
    secrets: Arc<[(String, String)]>,
    bytes: Arc<AtomicU64>,
}

impl BuildLog {
    /// `config` is the app's configuration, whose secrets are masked.
    pub(crate) fn new<'a>(
        out: Arc<dyn Log>,
        config: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let mut secrets: Vec<(String, String)> = config
            .into_iter()
            .filter(|(name, value)| is_secret(name, value))
            // A value of several lines is printed line by line.
            .flat_map(|(name, value)| {
                value.lines().map(move |line| (line.trim().to_owned(), format!("[{name}]")))
            })
            .filter(|(value, _)| value.len() >= SECRET_BYTES_MIN)
            .collect();
        // The longest first: one may contain another.
        secrets.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        Self { out, secrets: secrets.into(), bytes: Arc::default() }
    }

    pub(crate) fn heading(&self, text: &str) {
        self.write("-----> ", text);
    }

    pub(crate) fn body(&self, text: &str) {
        for line in text.lines() {
            self.write("       ", line);
        }
    }

    pub(crate) fn warning(&self, text: &str) {
        for line in text.lines() {
            self.write(" !     ", line);
        }
    }

    fn write(&self, prefix: &str, text: &str) {
        let text = self.masked(&printable(text, LINE_BYTES_MAX));
        let line = format!("{prefix}{text}");
        let line = line.trim_end();
        let before = self.bytes.fetch_add(line.len() as u64 + 1, Ordering::Relaxed);
        if before < BYTES_MAX {
            self.out.line(line);
            if before + line.len() as u64 + 1 >= BYTES_MAX {
                self.out.line(&format!(
                    " !     The log is longer than {} MiB; the rest is not kept.",
                    BYTES_MAX >> 20
                ));
            }
        }
    }

    fn masked(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, (value, name)| {
            if text.contains(value.as_str()) { text.replace(value.as_str(), name) } else { text }
        })
    }
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    value.len() >= SECRET_BYTES_MIN
        && (value.len() >= SECRET_BYTES_SURE || SECRET_NAMES.iter().any(|part| name.contains(part)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    fn log(config: &[(&str, &str)]) -> (BuildLog, Arc<Mutex<Vec<String>>>) {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let config: BTreeMap<String, String> =
            config.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let into = Arc::clone(&lines);
        let out = move |line: &str| into.lock().unwrap().push(line.to_owned());
        (BuildLog::new(Arc::new(out), &config), lines)
    }

    #[test]
    fn lines_have_the_form_of_a_push() {
        let (log, lines) = log(&[]);
        log.heading("Python app detected");
        log.body("one\ntwo\n");
        log.warning("no good");
        assert_eq!(
            *lines.lock().unwrap(),
            ["-----> Python app detected", "       one", "       two", " !     no good"]
        );
    }

    #[test]
    fn secrets_are_masked_and_ordinary_values_are_not() {
        let (log, lines) = log(&[
            ("API_TOKEN", "abcdefgh1"),
            ("DATABASE_URL", "postgres://me:pw@host/db"),
            ("MODE", "production"),
            ("SHORT_KEY", "abc"),
            ("PEM_KEY", "-----BEGIN-----\nline-of-a-key\n-----END-----"),
        ]);
        log.body("token=abcdefgh1 db postgres://me:pw@host/db mode production abc\nline-of-a-key");
        assert_eq!(
            *lines.lock().unwrap(),
            ["       token=[API_TOKEN] db [DATABASE_URL] mode production abc", "       [PEM_KEY]"]
        );
    }

    #[test]
    fn a_log_is_bounded_and_says_so_once() {
        let (log, lines) = log(&[]);
        let line = "x".repeat(4000);
        for _ in 0..5000 {
            log.body(&line);
        }
        let lines = lines.lock().unwrap();
        assert!(lines.len() < 4300 && lines.last().unwrap().contains("longer than 16 MiB"));
    }
}
