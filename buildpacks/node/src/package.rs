//! `package.json`.

use berth_buildpack_kit::site::{self, Kind};
use berth_buildpack_kit::{Failure, failure_at, has, source, text};
use serde_json::Value;

/// Scripts that npm, yarn and pnpm run by themselves when they install a project.
const LIFECYCLE: [&str; 6] =
    ["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare"];

/// A `package.json` that is an object.
pub(crate) struct Package(Value);

impl Package {
    /// Reads it, if there is one.
    pub(crate) fn read() -> Result<Option<Self>, Failure> {
        let Some(text) = text("package.json")? else { return Ok(None) };
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            failure_at(
                "package-json",
                "package.json",
                Some(error.line()),
                format!("package.json, line {}: {error}", error.line()),
            )
        })?;
        if value.is_object() {
            Ok(Some(Self(value)))
        } else {
            Err(failure_at(
                "package-json",
                "package.json",
                None,
                "package.json must be an object, { … }.",
            ))
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        site::kind(&self.0, has, |names| names.iter().find_map(|name| text(name).ok().flatten()))
    }

    /// A script that is not empty.
    pub(crate) fn script(&self, name: &str) -> Option<&str> {
        self.0["scripts"][name].as_str().map(str::trim).filter(|line| !line.is_empty())
    }

    /// The script that builds the app, Heroku's name first.
    pub(crate) fn build_script(&self) -> Option<&'static str> {
        ["heroku-postbuild", "build"].into_iter().find(|name| self.script(name).is_some())
    }

    pub(crate) fn engine(&self, name: &str) -> Option<&str> {
        self.0["engines"][name].as_str()
    }

    pub(crate) fn manager(&self) -> Option<&str> {
        self.0["packageManager"].as_str()
    }

    /// Why installing needs the whole tree: scripts of the project, or packages that lie in it.
    pub(crate) fn needs_tree(&self) -> Option<String> {
        let script = LIFECYCLE
            .iter()
            .find(|name| self.script(name).is_some())
            .map(|name| format!("the script '{name}'"));
        let lists = ["dependencies", "devDependencies", "optionalDependencies"];
        let local = lists.iter().filter_map(|list| self.0[*list].as_object()).flatten().find(
            |(_, wanted)| {
                let wanted = wanted.as_str().unwrap_or_default();
                ["file:", "link:", "portal:", "workspace:", ".", "/"]
                    .iter()
                    .any(|scheme| wanted.starts_with(scheme))
            },
        );
        let local = local.map(|(name, _)| format!("the package '{name}' in the tree"));
        let workspaces = (self.0.get("workspaces").is_some() || has("pnpm-workspace.yaml"))
            .then(|| "workspaces".to_owned());
        let patches =
            (source::kind("patches") == "directory").then(|| "the patches/ folder".to_owned());
        script.or(local).or(workspaces).or(patches)
    }

    /// `npm start` of a plain `node FILE …` is run without npm between: it starts half a second
    /// sooner, and signals reach the app itself.
    pub(crate) fn direct(&self, command: &[String]) -> Option<Vec<String>> {
        if command != ["npm", "start"]
            || self.script("prestart").is_some()
            || self.script("poststart").is_some()
        {
            return None;
        }
        plain(self.script("start")?)
    }
}

/// The words of a line that a shell would not change.
fn plain(line: &str) -> Option<Vec<String>> {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let node = words.first().is_some_and(|word| word == "node") && words.len() > 1;
    (node && words.iter().all(|word| word.chars().all(safe))).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(text: &str) -> Package {
        Package(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_plain_start_script_is_run_without_npm() {
        let start = ["npm".to_owned(), "start".to_owned()];
        let direct = |script: &str| {
            package(&format!(r#"{{"scripts":{{"start":"{script}"}}}}"#))
                .direct(&start)
                .map(|words| words.join(" "))
        };
        assert_eq!(direct("node ./bin/www").as_deref(), Some("node ./bin/www"));
        assert_eq!(
            direct("node --max-old-space-size=256 server.js").as_deref(),
            Some("node --max-old-space-size=256 server.js")
        );
        for shell in [
            "node server.js && true",
            "PORT=1 node x.js",
            "node $FILE",
            "next start",
            "node",
            "node 'a b.js'",
            "node *.js",
        ] {
            assert_eq!(direct(shell), None, "{shell}");
        }
        assert_eq!(
            package(r#"{"scripts":{"start":"node a.js","prestart":"x"}}"#).direct(&start),
            None
        );
    }

    #[test]
    fn the_build_script_has_two_names() {
        assert_eq!(package(r#"{"scripts":{"build":"x"}}"#).build_script(), Some("build"));
        assert_eq!(
            package(r#"{"scripts":{"build":"x","heroku-postbuild":"y"}}"#).build_script(),
            Some("heroku-postbuild")
        );
        assert_eq!(package(r#"{"scripts":{"build":" "}}"#).build_script(), None);
    }
}
