//! Text that apps, tools and guests wrote, made fit for a person's terminal.
//!
//! Takes text that nobody vouches for; gives what can be shown in a log or a push without moving a
//! cursor, clearing a screen or passing for something else. It hides nothing: what is not shown as
//! it is stands there escaped.

/// One line: of what a carriage return overwrites only the last version, as on a terminal, so a
/// progress bar becomes its last state; without colours; other control characters, ends of lines
/// among them, and characters that reorder text escaped. What is longer than about `bytes_max`
/// bytes is cut, and ends with `…`.
pub fn printable(line: &str, bytes_max: usize) -> String {
    let line = line.trim_end_matches('\r');
    let mut rest = line.rsplit('\r').next().unwrap_or(line);
    let mut shown = String::with_capacity(rest.len().min(bytes_max));
    while let Some(character) = rest.chars().next() {
        if shown.len() >= bytes_max {
            shown.push('…');
            break;
        }
        if let Some(after) = after_colour(rest) {
            rest = after;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        match character {
            '\t' => shown.push(character),
            _ if character.is_control() || reorders(character) => {
                shown.extend(character.escape_default());
            }
            _ => shown.push(character),
        }
    }
    shown
}

/// What follows a sequence that selects colours or weight (SGR, ECMA-48 8.3.117), when `text`
/// begins with one.
fn after_colour(text: &str) -> Option<&str> {
    text.strip_prefix("\u{1b}[")?
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == ':')
        .strip_prefix('m')
}

/// Characters that change the direction of the text round them (Unicode UAX #9), or end a line.
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_colours_dropped_and_progress_bars_kept_at_their_end() {
        for (text, expected) in [
            ("a\u{7}b\tc", "a\\u{7}b\tc"),
            ("\u{1b}[1;32mok\u{1b}[0m", "ok"),
            ("\u{1b}[38:5:1mred\u{1b}[m", "red"),
            ("\u{1b}[2J\u{1b}]0;x\u{1b}[3", "\\u{1b}[2J\\u{1b}]0;x\\u{1b}[3"),
            (" 10%\r 50%\r100%\r", "100%"),
            ("two\nlines", "two\\nlines"),
            ("safe\u{202e}gpj\u{2028}", "safe\\u{202e}gpj\\u{2028}"),
            ("", ""),
        ] {
            assert_eq!(printable(text, 100), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(printable("ääää", 4), "ää…");
        assert_eq!(printable("ää", 4), "ää");
    }
}
