//! Which mirrors: those of the host, if it has any for this release.
//!
//! Both forms of apt's lists are read. What is not Debian's main part of the release and its
//! updates is not taken: a stack must not depend on what else an operator installs from.

use std::fs;
use std::path::Path;

const KEYRINGS: [&str; 2] = ["/usr/share/keyrings/", "/etc/apt/"];

/// Lines of a sources list in the one-line form; empty when the host has none for the release.
pub(super) fn of_host(release: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut read = |path: &Path| {
        let Ok(text) = fs::read_to_string(path) else { return };
        let found = match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => stanzas(&text, release),
            Some("list") => one_liners(&text, release),
            _ => Vec::new(),
        };
        for line in found {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    };
    read(Path::new("/etc/apt/sources.list"));
    let mut parts: Vec<_> = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    parts.sort();
    parts.iter().for_each(|path| read(path));
    lines
}

/// The form of `.sources` files: stanzas of fields.
fn stanzas(text: &str, release: &str) -> Vec<String> {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut lines = Vec::new();
    for stanza in text.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            stanza.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let words = |name: &str| -> Vec<&str> {
            field(name).map(|value| value.split_whitespace().collect()).unwrap_or_default()
        };
        let enabled = !field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        if !enabled || !words("Types").contains(&"deb") || !words("Components").contains(&"main") {
            continue;
        }
        for uri in words("URIs") {
            for suite in words("Suites") {
                lines.extend(line(uri, suite, field("Signed-By"), release));
            }
        }
    }
    lines
}

/// The form of `.list` files: `deb [options] uri suite component…`.
fn one_liners(text: &str, release: &str) -> Vec<String> {
    let entry = |found: &str| {
        let mut rest = found.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let mut signed_by = None;
        if let Some(inside) = rest.strip_prefix('[') {
            let (options, after) = inside.split_once(']')?;
            signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by="));
            rest = after;
        }
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        words.any(|component| component == "main").then_some(())?;
        line(uri, suite, signed_by, release)
    };
    text.lines().filter_map(entry).collect()
}

fn line(uri: &str, suite: &str, signed_by: Option<&str>, release: &str) -> Option<String> {
    let of_release = suite == release
        || suite == format!("{release}-updates")
        || suite == format!("{release}-security")
        || suite == format!("{release}/updates");
    let fetched = uri.starts_with("http://") || uri.starts_with("https://");
    if !of_release || !fetched {
        return None;
    }
    // A key that is written into the list itself is left to mmdebstrap, which knows Debian's.
    let key = signed_by.filter(|path| KEYRINGS.iter().any(|folder| path.starts_with(folder)));
    let options = key.map(|path| format!("[signed-by={path}] ")).unwrap_or_default();
    Some(format!("deb {options}{uri} {suite} main"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_releases_main_part_and_nothing_else() {
        let text = "Types: deb deb-src\n# a note\nURIs: http://mirror.test/debian\n\
                    Suites: bookworm bookworm-updates bookworm-backports\n\
                    Components: main contrib\nSigned-By: /usr/share/keyrings/d.gpg\n\n\
                    Types: deb\nURIs: https://other.test/x\nSuites: nodistro\nComponents: main\n\n\
                    Types: deb\nEnabled: no\nURIs: http://off.test\nSuites: bookworm\nComponents: main\n";
        assert_eq!(
            stanzas(text, "bookworm"),
            [
                "deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror.test/debian bookworm main",
                "deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror.test/debian bookworm-updates main",
            ]
        );
        let text = "# deb http://off.test bookworm main\n\
                    deb http://mirror.test/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/etc/apt/k.gpg] http://sec.test bookworm-security main non-free\n\
                    deb-src http://mirror.test/debian bookworm main\n\
                    deb http://third.test/debian bookworm stable\n\
                    deb file:/media bookworm main\n";
        assert_eq!(
            one_liners(text, "bookworm"),
            [
                "deb http://mirror.test/debian bookworm main",
                "deb [signed-by=/etc/apt/k.gpg] http://sec.test bookworm-security main",
            ]
        );
    }
}
