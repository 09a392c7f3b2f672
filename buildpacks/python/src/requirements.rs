//! Requirement files and names of packages. Pure.

/// The name of a package in the one form in which names are compared (PEP 503).
pub(crate) fn normal(name: &str) -> String {
    let mut normal = String::new();
    for character in name.trim().to_ascii_lowercase().chars() {
        let character = if matches!(character, '_' | '.') { '-' } else { character };
        if character != '-' || !normal.ends_with('-') {
            normal.push(character);
        }
    }
    normal
}

/// What lines of a requirement file refer to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Other requirement and constraint files, as they are written.
    pub(crate) files: Vec<String>,
    /// A line installs something from the tree itself.
    pub(crate) local: bool,
}

/// Looks at the lines that name files.
pub(crate) fn read(text: &str) -> Lines {
    let mut lines = Lines::default();
    for line in text.replace("\\\r\n", " ").replace("\\\n", " ").lines() {
        // A comment begins at the start or after a space; `#` in a URL is a fragment.
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let option = |long: &str, short: &str| {
            let rest = line
                .strip_prefix(long)
                .map(|rest| rest.trim_start_matches('='))
                .or_else(|| line.strip_prefix(short));
            rest.map(|rest| rest.trim().trim_matches(['"', '\'']).to_owned())
        };
        if let Some(file) = option("--requirement", "-r").or_else(|| option("--constraint", "-c")) {
            lines.files.push(file);
        } else if let Some(target) = option("--editable", "-e") {
            lines.local |= !is_remote(&target);
        } else if line.starts_with("--") {
            lines.local |= line.starts_with("--find-links")
                && !is_remote(
                    line.trim_start_matches("--find-links").trim_start_matches(['=', ' ']),
                );
        } else {
            // `name @ URL` or a path, without markers and extras.
            let named =
                line.split_once('@').filter(|(name, _)| is_name(name)).map_or(line, |(_, url)| url);
            let target =
                named.split([';', '[', ' ']).find(|part| !part.is_empty()).unwrap_or_default();
            let archive = [".whl", ".tar.gz", ".zip"].iter().any(|end| target.ends_with(end));
            lines.local |= target.starts_with(['.', '/'])
                || target.starts_with("file:")
                || archive && !is_remote(target);
        }
    }
    lines
}

fn is_name(text: &str) -> bool {
    let name = text.split('[').next().unwrap_or_default().trim();
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !name.starts_with('.')
}

fn is_remote(target: &str) -> bool {
    ["git+", "hg+", "svn+", "bzr+", "http://", "https://", "ssh://"]
        .iter()
        .any(|scheme| target.starts_with(scheme))
}

/// A file that another one names, relative to the top of the tree; nothing when it leaves it.
pub(crate) fn beside(file: &str, named: &str) -> Option<String> {
    if named.starts_with('/') || named.contains("://") {
        return None;
    }
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in named.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_one_form() {
        assert_eq!(normal("Flask_SQLAlchemy"), "flask-sqlalchemy");
        assert_eq!(normal("zope..interface"), "zope-interface");
    }

    #[test]
    fn other_files_are_found() {
        let lines = read(
            "-r base.txt\n--requirement=more/dev.txt # note\n-c constraints.txt\nflask==3\n# -r no.txt\n--require-hashes\n",
        );
        assert_eq!(
            lines,
            Lines {
                files: ["base.txt", "more/dev.txt", "constraints.txt"].map(str::to_owned).to_vec(),
                local: false
            }
        );
    }

    #[test]
    fn lines_that_install_from_the_tree_are_known() {
        for local in [
            "-e .",
            "--editable ./lib",
            ".",
            "./lib",
            "lib @ file:///workspace/lib",
            "vendor/x-1.0-py3-none-any.whl",
            ".[extra]",
            "--find-links vendor",
        ] {
            assert!(read(local).local, "{local}");
        }
        for remote in [
            "flask",
            "flask[async]>=2,<4 ; python_version > '3.8'",
            "-e git+https://example.org/x.git#egg=x",
            "x @ https://example.org/x-1.whl",
            "https://example.org/x-1.tar.gz",
            "--index-url https://example.org/simple",
            "flask==3 \\\n  --hash=sha256:00",
        ] {
            assert!(!read(remote).local, "{remote}");
        }
    }

    #[test]
    fn a_named_file_stays_in_the_tree() {
        assert_eq!(beside("reqs/prod.txt", "base.txt").as_deref(), Some("reqs/base.txt"));
        assert_eq!(beside("reqs/prod.txt", "../common.txt").as_deref(), Some("common.txt"));
        assert_eq!(beside("requirements.txt", "../x"), None);
        assert_eq!(beside("requirements.txt", "https://example.org/x"), None);
    }
}
