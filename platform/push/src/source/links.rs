//! Whether symbolic links stay inside the tree, as a kernel would follow them.

use std::collections::{HashMap, VecDeque};

use super::walk::{Entry, Kind};
use super::{SourceError, names};

/// Links followed on the way to one target, as in Linux.
const HOPS_MAX: usize = 40;
/// Parts looked at for all links of a tree.
const STEPS_MAX: usize = 20_000_000;

/// Checks every link of a tree.
pub(super) fn check(entries: &[Entry]) -> Result<(), SourceError> {
    let links: HashMap<&[u8], &[u8]> = entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            Kind::Link { target } => Some((entry.path.as_slice(), target.as_slice())),
            Kind::File { .. } => None,
        })
        .collect();
    let mut steps = 0;
    for entry in entries {
        let Some(target) = links.get(entry.path.as_slice()) else { continue };
        if let Err(why) = check_target(target) {
            return Err(SourceError::Name { path: names::shown(&entry.path), why });
        }
        if leads_out(&links, &entry.path, target, &mut steps) {
            return Err(SourceError::LinkOut {
                path: names::shown(&entry.path),
                target: names::shown(target),
            });
        }
        if steps > STEPS_MAX {
            return Err(SourceError::Limit {
                what: "the symbolic links of the tree lead through too many others".to_owned(),
                max: format!("{STEPS_MAX} steps"),
            });
        }
    }
    Ok(())
}

fn check_target(target: &[u8]) -> Result<(), &'static str> {
    match std::str::from_utf8(target) {
        Err(_) => Err("the target of the symbolic link is not UTF-8"),
        Ok("") => Err("the target of the symbolic link is empty"),
        Ok(text) if text.chars().any(char::is_control) => {
            Err("the target of the symbolic link holds a control character")
        }
        Ok(_) => Ok(()),
    }
}

/// Follows `target` from the folder of `path`, through other links. A loop leads nowhere, so it
/// does not lead out.
fn leads_out<'a>(
    links: &HashMap<&'a [u8], &'a [u8]>,
    path: &'a [u8],
    target: &'a [u8],
    steps: &mut usize,
) -> bool {
    let mut at: Vec<u8> = parent(path).to_vec();
    let mut left: VecDeque<&[u8]> = target.split(|b| *b == b'/').collect();
    let mut hops = 0;
    if target.starts_with(b"/") {
        return true;
    }
    while let Some(part) = left.pop_front() {
        *steps += 1;
        if *steps > STEPS_MAX {
            return false;
        }
        match part {
            b"" | b"." => {}
            b".." if at.is_empty() => return true,
            b".." => at.truncate(parent(&at).len()),
            name => {
                if !at.is_empty() {
                    at.push(b'/');
                }
                at.extend_from_slice(name);
                let Some(next) = links.get(at.as_slice()) else { continue };
                hops += 1;
                if hops > HOPS_MAX {
                    return false;
                }
                if next.starts_with(b"/") {
                    return true;
                }
                at.truncate(parent(&at).len());
                for part in next.rsplit(|b| *b == b'/') {
                    left.push_front(part);
                }
            }
        }
    }
    false
}

/// The folder of a path; empty for the root.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(&[], |at| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(links: &[(&str, &str)]) -> Result<(), SourceError> {
        let entries: Vec<Entry> = links
            .iter()
            .map(|(path, target)| Entry {
                path: path.as_bytes().to_vec(),
                kind: Kind::Link { target: target.as_bytes().to_vec() },
            })
            .collect();
        check(&entries)
    }

    #[test]
    fn links_within_the_tree_stay() {
        for links in [
            &[("a", "b")][..],
            &[("d/a", "../b")],
            &[("d/e/a", "../../b/./c//d")],
            &[("a", "missing/../b")],
            &[("loop", "loop")],
            &[("a", "b"), ("b", "a")],
            &[("d/up", ".."), ("x", "d/up/d/up/file")],
        ] {
            assert!(tree(links).is_ok(), "{links:?}");
        }
    }

    #[test]
    fn links_out_of_the_tree_are_named() {
        for (links, culprit) in [
            (&[("a", "/etc/passwd")][..], "a"),
            (&[("a", "..")], "a"),
            (&[("d/a", "../../b")], "d/a"),
            (&[("a", "b/../../c")], "a"),
            // Each alone stays inside; together they do not.
            (&[("d/e/up", "../.."), ("x", "d/e/up/../etc")], "x"),
            (&[("a", "b"), ("b", "/")], "a"),
        ] {
            match tree(links) {
                Err(SourceError::LinkOut { path, .. }) => assert_eq!(path, culprit, "{links:?}"),
                other => panic!("{links:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn targets_with_odd_bytes_are_refused() {
        for target in ["", "a\nb", "a\u{1b}b"] {
            assert!(matches!(tree(&[("a", target)]), Err(SourceError::Name { .. })), "{target:?}");
        }
    }

    #[test]
    fn a_tangle_of_links_ends_at_a_bound() {
        let links: Vec<(String, String)> = (0..3000)
            .map(|n| (format!("l{n:04}"), format!("l{:04}/", (n + 1) % 3000).repeat(400)))
            .collect();
        let links: Vec<(&str, &str)> =
            links.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        // Each ends after 40 hops: no error, and no minutes.
        assert!(tree(&links).is_ok());
    }
}
