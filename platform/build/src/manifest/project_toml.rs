//! `project.toml` of Cloud Native Buildpacks (project descriptor 0.2): which buildpacks, and
//! variables for them.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{ManifestError, line_of};

const FILE: &str = "project.toml";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProjectToml {
    /// `[[io.buildpacks.group]] id`: these, in this order.
    pub buildpacks: Option<Vec<String>>,
    /// `[[io.buildpacks.build.env]]`.
    pub build_env: BTreeMap<String, String>,
    /// Things to warn of.
    pub warnings: Vec<String>,
}

impl ProjectToml {
    /// Reads the file. What other tools keep in it is theirs and passes unread.
    ///
    /// # Errors
    /// TOML that is not valid; a group with an entry that has no id, or an inline script.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| ManifestError {
            file: FILE,
            line: error.span().map(|span| line_of(text, span.start)),
            message: error.message().replace('\n', ", "),
        })?;
        let mut read = Self::default();
        let Some(ours) = table.get("io").and_then(|io| io.get("buildpacks")) else {
            return Ok(read);
        };
        if let Some(group) =
            ours.get("group").and_then(Value::as_array).filter(|group| !group.is_empty())
        {
            read.buildpacks = Some(group.iter().map(id).collect::<Result<_, _>>()?);
        }
        for entry in ours
            .get("build")
            .and_then(|build| build.get("env"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            match (
                entry.get("name").and_then(Value::as_str),
                entry.get("value").and_then(Value::as_str),
            ) {
                (Some(name), Some(value))
                    if !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') =>
                {
                    read.build_env.insert(name.to_owned(), value.to_owned());
                }
                _ => {
                    return refuse(
                        "each [[io.buildpacks.build.env]] needs a name and a value, both texts.",
                    );
                }
            }
        }
        for key in ["include", "exclude"] {
            if ours.get(key).is_some() {
                read.warnings.push(format!(
                    "project.toml: '{key}' has no effect here; the whole commit is built"
                ));
            }
        }
        Ok(read)
    }
}

fn id(entry: &Value) -> Result<String, ManifestError> {
    if entry.get("script").is_some() {
        return refuse(
            "inline buildpacks ([io.buildpacks.group.script]) are not supported. Put the commands in the build script of the app's own tool.",
        );
    }
    match entry.get("id").and_then(Value::as_str) {
        Some(id) => Ok(id.to_owned()),
        None => refuse("each [[io.buildpacks.group]] needs an id."),
    }
}

fn refuse<T>(message: &str) -> Result<T, ManifestError> {
    Err(ManifestError { file: FILE, line: None, message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_and_variables_are_read() {
        let read = ProjectToml::parse(
            "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"node\"\n[[io.buildpacks.group]]\nid = \"procfile\"\nversion = \"1\"\n\
             [[io.buildpacks.build.env]]\nname = \"A\"\nvalue = \"b\"\n[io.buildpacks]\nexclude = [\"x\"]\n",
        )
        .unwrap();
        assert_eq!(read.buildpacks.unwrap(), ["node", "procfile"]);
        assert_eq!(read.build_env, BTreeMap::from([("A".to_owned(), "b".to_owned())]));
        assert_eq!(read.warnings.len(), 1);
    }

    #[test]
    fn other_tables_pass_and_broken_ones_do_not() {
        assert_eq!(ProjectToml::parse("[tool.other]\nx = 1\n").unwrap(), ProjectToml::default());
        for text in [
            "[io",
            "[[io.buildpacks.group]]\nversion = \"1\"",
            "[[io.buildpacks.group]]\nid = \"x\"\n[io.buildpacks.group.script]\ninline = \"x\"",
            "[[io.buildpacks.build.env]]\nname = \"A\"",
        ] {
            assert!(ProjectToml::parse(text).is_err(), "{text}");
        }
    }
}
