//! `NAME=VALUE` and `PROCESS=COUNT` arguments, and files of them.

use std::collections::BTreeMap;

use crate::failure::Failure;

/// Splits `NAME=VALUE` arguments; a value may hold anything, also further `=`.
pub(crate) fn variables(arguments: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    arguments
        .iter()
        .map(|argument| {
            let (name, value) = argument.split_once('=').ok_or_else(|| {
                // The value may be a secret that was given without its name: it is not repeated.
                Failure::usage("an argument has no '='").with_hint("write NAME=VALUE")
            })?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Splits `PROCESS=COUNT` arguments.
pub(crate) fn counts(arguments: &[String]) -> Result<BTreeMap<String, u16>, Failure> {
    arguments
        .iter()
        .map(|argument| {
            argument
                .split_once('=')
                .and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
                .ok_or_else(|| {
                    Failure::usage(format!("'{argument}' is not of the form PROCESS=COUNT"))
                })
        })
        .collect()
}

/// Reads a file of variables: a JSON object, or lines `NAME=VALUE` with optional `export`, quotes
/// and comments, as dotenv files have them.
pub(crate) fn file(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| {
            Failure::usage(format!("the file is no JSON object of strings: {error}"))
        });
    }
    let mut variables = BTreeMap::new();
    let mut rest = text;
    let mut number = 1;
    while !rest.is_empty() {
        let line_end = rest.find('\n').unwrap_or(rest.len());
        let line = rest[..line_end].trim();
        if line.is_empty() || line.starts_with('#') {
            rest = rest.get(line_end + 1..).unwrap_or_default();
            number += 1;
            continue;
        }
        let wrong = || Failure::usage(format!("line {number} is not of the form NAME=VALUE"));
        let start = rest.trim_start();
        let start = start.strip_prefix("export ").unwrap_or(start);
        let (name, value) =
            start.split_once('=').filter(|(name, _)| !name.contains('\n')).ok_or_else(wrong)?;
        let (value, after) = value_of(value).ok_or_else(wrong)?;
        variables.insert(name.trim().to_owned(), value);
        number += rest[..rest.len() - after.len()].matches('\n').count();
        rest = after;
    }
    Ok(variables)
}

/// The value at the start of `text`, and what follows its line.
fn value_of(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        let end = text.find('\n').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), text.get(end + 1..).unwrap_or_default()));
    };
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        if c == quote {
            let after = &text[at + 1..];
            let end = after.find('\n').map_or(after.len(), |end| end + 1);
            return Some((value, &after[end..]));
        }
        if c == '\\' && quote == '"' {
            match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            }
        } else {
            value.push(c);
        }
    }
    None
}

/// A value in double quotes, so that [`file`] reads it back.
pub(crate) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A value in single quotes for a shell.
pub(crate) fn shell_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_reads_back_byte_for_byte() {
        let values = [
            "plain",
            "with spaces",
            "$(id) `id`",
            "a\nb",
            "\"quoted\"",
            "back\\slash",
            "",
            "a=b",
            "#no",
        ];
        let text: String =
            values.iter().enumerate().map(|(n, v)| format!("V{n}={}\n", quoted(v))).collect();
        let read = file(&text).unwrap();
        for (number, value) in values.iter().enumerate() {
            assert_eq!(read[&format!("V{number}")], *value);
        }
    }

    #[test]
    fn a_broken_line_is_named_by_its_number() {
        let failure = file("A=1\n# remark\nno sign\nB=2\n").unwrap_err().to_string();
        assert!(failure.contains("line 3"), "{failure}");
    }

    #[test]
    fn a_value_without_a_name_is_not_repeated() {
        let failure = variables(&["hunter2".to_owned()]).unwrap_err().to_string();
        assert!(!failure.contains("hunter2"), "{failure}");
    }
}
