//! Which names a tree may have.

use berth_model::text::printable;

/// Longest name of one entry, bytes: what Linux file systems take.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a path that a message shows.
const PATH_BYTES_MAX: usize = 300;

/// Checks the name of one entry; the error is the rule that it breaks.
///
/// The `.git` rules are git's own for file systems that fold case (HFS+, NTFS): the tree may be
/// cloned on such a machine, and a build may run git in it.
pub(super) fn check(name: &[u8]) -> Result<(), &'static str> {
    let Ok(text) = std::str::from_utf8(name) else {
        return Err("it is not UTF-8");
    };
    if text.is_empty() {
        return Err("it has an empty part");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("a part of it has more than 255 bytes");
    }
    if text.contains('/') {
        return Err("one entry of a directory holds a '/'");
    }
    if text.chars().any(char::is_control) {
        return Err("it holds a control character");
    }
    // Windows reads a backslash as a separator.
    for part in text.split('\\') {
        if matches!(part, "." | "..") {
            return Err("a part of it is '.' or '..'");
        }
        if is_dot_git(part) {
            return Err("a part of it is '.git', or is one on some file systems");
        }
    }
    if text.starts_with(".wh.") {
        return Err("names that begin with '.wh.' mean removal in image layers");
    }
    Ok(())
}

fn is_dot_git(part: &str) -> bool {
    // HFS+ ignores these characters.
    let visible = |c: &char| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let folded: String = part.chars().filter(visible).flat_map(char::to_lowercase).collect();
    // NTFS ignores final dots and spaces and what follows a colon; git~1 is the short name.
    [".git", "git~1"].iter().any(|name| {
        folded.strip_prefix(name).is_some_and(|rest| {
            rest.split(':').next().is_some_and(|r| r.chars().all(|c| matches!(c, ' ' | '.')))
        })
    })
}

/// A path for messages: bytes and characters that a terminal must not get are escaped, and a long
/// one is cut.
pub(super) fn shown(path: &[u8]) -> String {
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        text.push_str(&printable(&chunk.valid().replace('\r', "\\r"), PATH_BYTES_MAX));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
        if text.len() > PATH_BYTES_MAX {
            text.truncate(text.floor_char_boundary(PATH_BYTES_MAX));
            text.push('…');
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in [
            "a",
            ".gitignore",
            ".gitmodules",
            ".github",
            "...",
            "a b",
            "ä",
            "日本",
            "git~2",
            ".git2",
            "dev-disk-by\\x2dlabel.swap",
            "-rf",
            "~",
            "con",
        ] {
            assert_eq!(check(name.as_bytes()), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_reach_out_or_into_git_are_refused() {
        for name in [
            "",
            ".",
            "..",
            ".git",
            ".GIT",
            ".Git",
            ".git ",
            ".git.",
            ".git. .",
            "git~1",
            "GIT~1",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            ".g\u{200c}it",
            "\u{feff}.git",
            "a/b",
            "/",
            "a\\..\\b",
            "a\\.git",
            "..\\x",
            "a\nb",
            "a\u{1b}[2J",
            "a\u{7f}",
            "a\u{9b}",
            ".wh.x",
            &"x".repeat(256),
        ] {
            assert!(check(name.as_bytes()).is_err(), "{name:?}");
        }
        assert!(check(b"\xff\xfe").is_err());
        assert!(check(b"a\0b").is_err());
    }

    #[test]
    fn a_shown_path_is_safe_on_a_terminal() {
        assert_eq!(shown(b"a\x1b[2J\xffb\rc"), "a\\u{1b}[2J\\xffb\\rc");
        assert!(shown(&vec![b'x'; 5000]).len() < 310);
    }
}
