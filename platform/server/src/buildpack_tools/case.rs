//! A case: an app, how tools end, and what is expected of the buildpack. TOML, unknown keys are
//! errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_build::trial::{Given, Tool};
use serde::Deserialize;
use serde_json::Value;

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// Folder of the app, beside the case; the one of the case's name where it is not given.
    app: Option<PathBuf>,
    /// Names of the app's configuration.
    #[serde(default)]
    config: Vec<String>,
    /// Metadata of layers that an earlier build left, by name.
    #[serde(default)]
    restored: BTreeMap<String, Value>,
    /// What other buildpacks require of it.
    #[serde(default)]
    pub(super) requires: Vec<Require>,
    /// The tools that it runs, in order.
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(default)]
    pub(super) expect: Expect,
}

/// Something that another buildpack requires.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Require {
    pub(super) name: String,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, Value>,
}

/// A tool, and how it ends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    argv: Vec<String>,
    #[serde(default)]
    exit_code: i32,
    #[serde(default)]
    stdout: String,
}

/// What must come of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// Whether it fits: `pass` (and then it builds) or `fail`.
    #[serde(default)]
    pub(super) detect: Detected,
    /// Part of the reason why it does not fit.
    pub(super) reason: Option<String>,
    /// Code of the error that it returns.
    pub(super) error: Option<String>,
    /// All that it asked the host to do, in order: `run make`, `write conf/nginx.conf`…
    pub(super) calls: Option<Vec<String>>,
    /// Each is part of a line of the build log.
    #[serde(default)]
    pub(super) log: Vec<String>,
    /// Processes by name, each with its command; others may be there.
    #[serde(default)]
    pub(super) processes: BTreeMap<String, Vec<String>>,
    /// Part of the text of files that it wrote, by layer (or `workspace`) and path.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Detected {
    #[default]
    Pass,
    Fail,
}

impl Case {
    /// Reads a file; its name is the case's.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            anyhow::anyhow!("{}:{line}: {}", path.display(), error.message())
        })
    }

    /// The folder of the app.
    pub(super) fn app(&self, path: &Path) -> PathBuf {
        match &self.app {
            Some(folder) => path.with_file_name("").join(folder),
            None => path.with_extension(""),
        }
    }

    /// What the buildpack is given.
    pub(super) fn given(&self) -> Given {
        let tool = |step: &Step| Tool {
            argv: step.argv.clone(),
            exit_code: step.exit_code,
            stdout: step.stdout.clone(),
        };
        let restored = self.restored.iter();
        Given {
            config: self.config.clone(),
            restored: restored.map(|(name, value)| (name.clone(), value.to_string())).collect(),
            tools: self.steps.iter().map(tool).collect(),
        }
    }
}
