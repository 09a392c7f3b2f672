//! Reads a Procfile, as strictly as Dokku does: what would be guessed at is refused with its line.

/// The processes of a Procfile in the order of the file.
pub type Processes = Vec<(String, String)>;

/// A Procfile that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// From 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

/// Longest command line, bytes.
pub const COMMAND_BYTES_MAX: usize = 16 << 10;
/// Most process types.
pub const PROCESSES_MAX: usize = 64;

/// Parses `name: command` lines. Comments begin with `#` or `//`; lines may end with CR LF.
///
/// # Errors
/// Merge markers, a name that is not a DNS label, a name that comes twice, an empty command,
/// control characters, too many or too long lines.
pub fn parse(text: &str) -> Result<Processes, Refused> {
    let mut processes = Processes::new();
    for (index, line) in text.split('\n').enumerate() {
        let refuse = |message: String| Err(Refused { line: index + 1, message });
        let line = line.strip_suffix('\r').unwrap_or(line).trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        if ["<<<<<<<", "=======", ">>>>>>>", "|||||||"]
            .iter()
            .any(|marker| line.starts_with(marker))
        {
            return refuse("a merge conflict is left here. Resolve it and commit.".to_owned());
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return refuse("this line has a control character. Remove it.".to_owned());
        }
        let Some((name, command)) = line.split_once(':') else {
            return refuse(format!("'{}' is not of the form 'name: command'.", shorten(line)));
        };
        let (name, command) = (name.trim_end(), command.trim());
        if !is_name(name) {
            return refuse(format!(
                "'{}' is not a process type. Use 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end.",
                shorten(name)
            ));
        }
        if command.is_empty() {
            return refuse(format!("the process '{name}' has no command."));
        }
        if command.len() > COMMAND_BYTES_MAX {
            return refuse(format!(
                "the command of '{name}' is longer than {COMMAND_BYTES_MAX} bytes."
            ));
        }
        if processes.iter().any(|(known, _)| known == name) {
            return refuse(format!("the process '{name}' comes a second time. Keep one of them."));
        }
        if processes.len() == PROCESSES_MAX {
            return refuse(format!("more than {PROCESSES_MAX} processes."));
        }
        processes.push((name.to_owned(), command.to_owned()));
    }
    Ok(processes)
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> Processes {
        parse(text).unwrap()
    }

    fn bad(text: &str) -> (usize, String) {
        let refused = parse(text).unwrap_err();
        (refused.line, refused.message)
    }

    #[test]
    fn processes_keep_their_order_and_their_command_as_it_is() {
        let processes = good(
            "web: gunicorn app:app --bind \"0.0.0.0:$PORT\"\r\n# note\n\n// note\nworker-2 :  ./run  it \r\n",
        );
        assert_eq!(
            processes,
            [
                ("web".to_owned(), "gunicorn app:app --bind \"0.0.0.0:$PORT\"".to_owned()),
                ("worker-2".to_owned(), "./run  it".to_owned()),
            ]
        );
    }

    #[test]
    fn an_empty_file_has_no_processes() {
        assert!(good("").is_empty());
        assert!(good("# only a note\n").is_empty());
    }

    #[test]
    fn merge_markers_are_named_with_their_line() {
        for marker in ["<<<<<<< HEAD", "=======", ">>>>>>> topic", "||||||| base"] {
            let (line, message) = bad(&format!("web: a\n{marker}\n"));
            assert_eq!(line, 2);
            assert!(message.contains("merge conflict"), "{message}");
        }
    }

    #[test]
    fn what_would_have_to_be_guessed_is_refused() {
        for (text, line, part) in [
            ("web: a\nweb: b", 2, "second time"),
            ("Web: a", 1, "lower-case"),
            ("-web: a", 1, "lower-case"),
            ("we_b: a", 1, "lower-case"),
            ("web", 1, "name: command"),
            ("web:", 1, "no command"),
            ("web:   \t", 1, "no command"),
            ("ok: a\n\nwe b: x", 3, "lower-case"),
            (": a", 1, "lower-case"),
            ("web: a\u{1b}[2J", 1, "control character"),
        ] {
            let (at, message) = bad(text);
            assert_eq!(at, line, "{text}");
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        assert!(bad(&format!("web: {}", "x".repeat(COMMAND_BYTES_MAX + 1))).1.contains("longer"));
        let many: String = (0..=PROCESSES_MAX).map(|n| format!("p{n}: x\n")).collect();
        assert!(bad(&many).1.contains("more than"));
        assert!(bad(&format!("{}: x", "a".repeat(64))).1.contains("63"));
    }
}
