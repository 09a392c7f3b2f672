//! Text of apps, made fit for a person's terminal.

/// Without control characters, so that an app's output cannot play tricks on a terminal: line ends
/// and tabs become spaces, the rest is escaped.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match character {
            '\n' | '\r' | '\t' => line.push(' '),
            character if character.is_control() => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
    line
}
