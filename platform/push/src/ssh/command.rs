//! The one form of command that a connection may ask for. Pure.

use crate::Service;

/// Longest command, bytes.
const COMMAND_BYTES_MAX: usize = 256;

/// Reads `git-receive-pack 'NAME'` or `git-upload-pack 'NAME'` as git clients write it: an optional
/// slash before the name, an optional `.git` behind it. `git receive-pack` is the same command.
pub(super) fn parse(command: &[u8]) -> Option<(Service, &str)> {
    let text = std::str::from_utf8(command).ok().filter(|text| text.len() <= COMMAND_BYTES_MAX)?;
    let rest = text.strip_prefix("git-").or_else(|| text.strip_prefix("git "))?;
    let (service, quoted) = if let Some(quoted) = rest.strip_prefix("receive-pack ") {
        (Service::Receive, quoted)
    } else {
        (Service::Upload, rest.strip_prefix("upload-pack ")?)
    };
    let path = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
    let name = path.strip_prefix('/').unwrap_or(path);
    let name = name.strip_suffix(".git").unwrap_or(name);
    let plain = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\'' | b'\\' | b'/' | b'!'));
    plain.then_some((service, name))
}

/// The protocol version in the value of `GIT_PROTOCOL`: exactly `version=0`, `1` or `2`.
pub(crate) fn version(value: &str) -> Option<u8> {
    match value {
        "version=0" => Some(0),
        "version=1" => Some(1),
        "version=2" => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_commands_are_read() {
        for (command, expected) in [
            ("git-receive-pack 'hello'", (Service::Receive, "hello")),
            ("git-receive-pack '/hello.git'", (Service::Receive, "hello")),
            ("git-upload-pack '/hello'", (Service::Upload, "hello")),
            ("git upload-pack 'hello.git'", (Service::Upload, "hello")),
            // The server says what a valid name is.
            ("git-receive-pack 'Not_Valid'", (Service::Receive, "Not_Valid")),
        ] {
            assert_eq!(parse(command.as_bytes()), Some(expected), "{command}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for command in [
            "",
            "ls",
            "git-receive-pack",
            "git-receive-pack hello",
            "git-receive-pack ''",
            "git-receive-pack '/'",
            "git-receive-pack '.git'",
            "git-receive-pack 'a'; id",
            "git-receive-pack 'a' 'b'",
            "git-receive-pack 'a'\\''b'",
            "git-receive-pack '../a'",
            "git-receive-pack 'a/b'",
            "git-receive-pack --help 'a'",
            "git-upload-archive 'a'",
            " git-receive-pack 'a'",
            "git-receive-pack 'a' ",
            "git-receive-pack 'a\nb'",
            "git-shell -c 'id'",
            "scp -t /",
            "git-receive-pack '//a'",
            &format!("git-receive-pack '{}'", "a".repeat(300)),
        ] {
            assert_eq!(parse(command.as_bytes()), None, "{command:?}");
        }
        assert_eq!(parse(b"git-receive-pack '\xff'"), None);
    }

    #[test]
    fn only_known_protocol_versions_pass() {
        assert_eq!(version("version=2"), Some(2));
        for value in ["", "version=3", "version=2:x=y", "version=02", "VERSION=2"] {
            assert_eq!(version(value), None, "{value}");
        }
    }
}
