//! Which app a command is about: `--app`, or the app of this folder's git remote.

use std::process::{Command, Stdio};

use crate::failure::Failure;

/// The app's name.
///
/// # Errors
/// When nothing names one, or several remotes do.
pub(crate) fn resolve(given: Option<&str>, server: &str) -> Result<String, Failure> {
    if let Some(name) = given {
        return Ok(name.to_owned());
    }
    let remotes = Command::new("git")
        .args(["remote", "--verbose"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    match of_remotes(&remotes, server).as_slice() {
        [name] => Ok(name.clone()),
        [] => Err(Failure::usage(
            "no app is named, and no git remote of this folder is one of this platform",
        )
        .with_hint("give --app NAME, or run this in the app's repository")),
        several => Err(Failure::usage(format!(
            "the git remotes of this folder name several apps: {}",
            several.join(", ")
        ))
        .with_hint("give --app NAME")),
    }
}

/// The apps that remotes of this platform name. A remote called `berth` decides.
fn of_remotes(remotes: &str, server: &str) -> Vec<String> {
    let mut found: Vec<(bool, String)> = remotes
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (remote, url) = (words.next()?, words.next()?);
            Some((remote == "berth", app_of(url, server)?))
        })
        .collect();
    if found.iter().any(|(ours, _)| *ours) {
        found.retain(|(ours, _)| *ours);
    }
    let mut names: Vec<String> = found.into_iter().map(|(_, name)| name).collect();
    names.sort();
    names.dedup();
    names
}

fn app_of(url: &str, server: &str) -> Option<String> {
    let path = match url.strip_prefix(server) {
        Some(path) => path.strip_prefix("/git/")?,
        None => {
            // The SSH server is the same machine on another port.
            let (authority, path) = url.strip_prefix("ssh://")?.split_once('/')?;
            let host = authority.rsplit('@').next()?.rsplit_once(':').map_or(authority, |(h, _)| h);
            let own = server.strip_prefix("http://")?;
            (own.rsplit_once(':').map_or(own, |(h, _)| h) == host).then_some(path)?
        }
    };
    Some(path.trim_end_matches('/').trim_end_matches(".git").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "http://127.0.0.1:8081";

    #[test]
    fn a_remote_of_this_platform_names_the_app() {
        let remotes = "origin\thttps://example.org/me/other.git (fetch)\n\
                       up\thttp://127.0.0.1:8081/git/hello.git (fetch)\n\
                       up\thttp://127.0.0.1:8081/git/hello.git (push)\n";
        assert_eq!(of_remotes(remotes, SERVER), ["hello"]);
        assert_eq!(of_remotes("x\tssh://git@127.0.0.1:2222/hello (push)\n", SERVER), ["hello"]);
    }

    #[test]
    fn the_remote_called_berth_decides_among_several() {
        let remotes = "a\thttp://127.0.0.1:8081/git/one.git (push)\nberth\thttp://127.0.0.1:8081/git/two.git (push)\n";
        assert_eq!(of_remotes(remotes, SERVER), ["two"]);
    }

    #[test]
    fn remotes_of_other_places_name_nothing() {
        assert!(
            of_remotes("origin\thttps://example.org/git/hello.git (push)\n", SERVER).is_empty()
        );
    }
}
