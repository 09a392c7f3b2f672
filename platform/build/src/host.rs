//! What one buildpack may do in a build: the host functions of its world, each judged here.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use berth_extensions::buildpack::{
    BuildpackHost, Entry, Failure, HostError, LogLevel, Step, ToolOutcome,
};
use berth_model::ProcessName;

use crate::archive::ArchiveError;
use crate::environment::{Change, Operation, Phase};
use crate::session::{Contents, Kinds, LAYERS_MAX, Layer, Session, State, layer_path};
use crate::steps::broken;
use crate::tree::{Files, Written, is_relative};

/// Most changes of the environment by one layer, and bytes of a value.
const CHANGES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 64 << 10;
const METADATA_BYTES_MAX: usize = 256 << 10;

/// The host of one buildpack.
pub(crate) struct Host {
    pub(crate) session: Arc<Session>,
    pub(crate) buildpack: String,
    /// While it detects, only warnings and errors are shown.
    pub(crate) detecting: bool,
}

/// A failure that the buildpack is told.
pub(crate) fn refuse(code: &str, message: String) -> HostError {
    HostError::Failure(Failure { code: code.to_owned(), message, retry: false, extra: Vec::new() })
}

fn unread(error: ArchiveError) -> HostError {
    match &error {
        ArchiveError::NotAFile(_) => refuse("no-file", error.to_string()),
        ArchiveError::TooLarge { .. } => refuse("too-large", error.to_string()),
        ArchiveError::Pattern { .. } => refuse("bad-pattern", error.to_string()),
        _ => broken(error.into()),
    }
}

impl Host {
    fn key(&self, layer: &str) -> (String, String) {
        (self.buildpack.clone(), layer.to_owned())
    }

    /// Does something to an open layer.
    async fn layer<T>(
        &self,
        name: &str,
        act: impl FnOnce(&mut Layer) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let mut state = self.session.state.lock().await;
        match state.layers.get_mut(&self.key(name)) {
            Some(layer) => act(layer),
            None => Err(refuse("no-layer", format!("the layer '{name}' is not open"))),
        }
    }

    async fn put(&self, layer: &str, path: &str, written: Written) -> Result<(), HostError> {
        let mut state = self.session.state.lock().await;
        budget(&mut state, path, &written)?;
        let Some(known) = state.layers.get_mut(&self.key(layer)) else {
            return Err(refuse("no-layer", format!("the layer '{layer}' is not open")));
        };
        match &mut known.contents {
            Contents::Kept => {
                return Err(refuse(
                    "layer-kept",
                    format!(
                        "the layer '{layer}' is kept from the last build; clear or update it before you write"
                    ),
                ));
            }
            Contents::Written(files) => drop(files.insert(path.to_owned(), written.clone())),
            Contents::Filled => {}
        }
        known.undelivered.insert(path.to_owned(), written);
        Ok(())
    }

    async fn put_workspace(&self, path: &str, written: Written) -> Result<(), HostError> {
        let mut state = self.session.state.lock().await;
        budget(&mut state, path, &written)?;
        state.workspace.write(&self.session.archive, path, written.clone());
        if state.workspace_in.extracted {
            state.workspace_in.undelivered.insert(path.to_owned(), written);
        }
        Ok(())
    }
}

/// A path and a size that may be written.
fn budget(state: &mut State, path: &str, written: &Written) -> Result<(), HostError> {
    let bytes = match written {
        Written::File { data, .. } => data.len(),
        Written::Symlink { target }
            if target.is_empty() || target.contains('\0') || target.len() > 4095 =>
        {
            return Err(refuse(
                "bad-path",
                "the target of a symbolic link is empty, too long or has a zero byte".to_owned(),
            ));
        }
        Written::Symlink { target } => target.len(),
    };
    if !is_relative(path) {
        return Err(refuse(
            "bad-path",
            format!("'{}' is not a plain relative path", path.escape_default()),
        ));
    }
    if !state.budget.take(bytes) {
        return Err(refuse(
            "too-large",
            "buildpacks wrote too many files or bytes; let a tool write them".to_owned(),
        ));
    }
    Ok(())
}

#[async_trait]
impl BuildpackHost for Host {
    async fn source_kind(&self, path: &str) -> Result<String, HostError> {
        Ok(self.session.archive.kind(path).to_owned())
    }

    async fn source_read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, HostError> {
        self.session.archive.read(path, bytes_max).map_err(unread)
    }

    async fn source_glob(&self, patterns: &[String]) -> Result<Vec<String>, HostError> {
        self.session.archive.glob(patterns).map_err(unread)
    }

    async fn source_digest(&self, patterns: &[String]) -> Result<String, HostError> {
        let (archive, patterns) = (self.session.archive.clone(), patterns.to_vec());
        let digest = tokio::task::spawn_blocking(move || archive.digest(&patterns)).await;
        digest.map_err(|error| HostError::Broken(error.into()))?.map_err(unread)
    }

    fn log_header(&self, text: &str) {
        if !self.detecting {
            self.session.log.heading(text);
        }
    }

    fn log_line(&self, level: LogLevel, text: &str) {
        match level {
            LogLevel::Debug => {
                tracing::debug!(buildpack = %self.buildpack, text, "a buildpack says")
            }
            LogLevel::Info if self.detecting => {}
            LogLevel::Info => self.session.log.body(text),
            LogLevel::Warning | LogLevel::Error => self.session.log.warning(text),
        }
    }

    async fn inventory_entries(&self, role: &str, package: &str) -> Result<Vec<Entry>, HostError> {
        let entries = self.session.inventory.entries(role, package).iter();
        Ok(entries
            .map(|entry| Entry {
                role: role.to_owned(),
                package: package.to_owned(),
                version: entry.version.clone(),
                integrity: entry.integrity.clone(),
                extra: entry.extra.clone().into_iter().collect(),
            })
            .collect())
    }

    async fn workspace_write(
        &self,
        path: &str,
        data: Vec<u8>,
        executable: bool,
    ) -> Result<(), HostError> {
        self.put_workspace(path, Written::File { data, executable }).await
    }

    async fn workspace_symlink(&self, path: &str, target: &str) -> Result<(), HostError> {
        self.put_workspace(path, Written::Symlink { target: target.to_owned() }).await
    }

    async fn workspace_remove(&self, patterns: &[String]) -> Result<u32, HostError> {
        let mut state = self.session.state.lock().await;
        let State { workspace, workspace_in, .. } = &mut *state;
        let gone = workspace.remove(&self.session.archive, patterns).map_err(broken)?;
        let count = u32::try_from(gone.len()).unwrap_or(u32::MAX);
        if workspace_in.extracted {
            workspace_in.undelivered.retain(|path, _| !gone.contains(path));
            workspace_in.removed.extend(gone);
        }
        Ok(count)
    }

    async fn layer_open(&self, name: &str, kinds: &[String]) -> Result<(), HostError> {
        if name.parse::<ProcessName>().is_err() || name == "workspace" {
            return Err(refuse(
                "bad-name",
                format!(
                    "'{}' is not the name of a layer: use lower-case letters, digits and hyphens",
                    name.escape_default()
                ),
            ));
        }
        let mut wanted = Kinds::default();
        for kind in kinds {
            match kind.as_str() {
                "launch" => wanted.launch = true,
                "build" => wanted.build = true,
                "cache" => wanted.cache = true,
                other => {
                    return Err(refuse(
                        "bad-kind",
                        format!(
                            "'{}' is not a kind of layer: there are launch, build and cache",
                            other.escape_default()
                        ),
                    ));
                }
            }
        }
        let mut state = self.session.state.lock().await;
        let key = self.key(name);
        if let Some(layer) = state.layers.get_mut(&key) {
            layer.kinds = wanted;
            return Ok(());
        }
        if state.layers.len() >= LAYERS_MAX {
            return Err(refuse(
                "too-many-layers",
                format!("a build has at most {LAYERS_MAX} layers"),
            ));
        }
        let restored = state.restored.get(&key).cloned();
        let layer = Layer {
            kinds: wanted,
            contents: if restored.is_some() {
                Contents::Kept
            } else {
                Contents::Written(Files::new())
            },
            metadata: restored
                .as_ref()
                .map_or_else(|| "{}".to_owned(), |restored| restored.metadata.clone()),
            changes: restored.as_ref().map(|restored| restored.changes.clone()).unwrap_or_default(),
            changes_set: false,
            undelivered: Files::new(),
            in_container: false,
            restored,
        };
        state.layers.insert(key, layer);
        Ok(())
    }

    async fn layer_path(&self, layer: &str) -> Result<String, HostError> {
        Ok(layer_path(&self.buildpack, layer))
    }

    async fn layer_restored(&self, layer: &str) -> Result<Option<String>, HostError> {
        self.layer(layer, |layer| {
            Ok(layer.restored.as_ref().map(|restored| restored.metadata.clone()))
        })
        .await
    }

    async fn layer_clear(&self, layer: &str) -> Result<(), HostError> {
        let mut state = self.session.state.lock().await;
        let State { layers, stale, .. } = &mut *state;
        let key = self.key(layer);
        if let Some(known) = layers.get_mut(&key) {
            known.contents = Contents::Written(Files::new());
            known.undelivered.clear();
            known.changes.clear();
            known.restored = None;
            if std::mem::take(&mut known.in_container) {
                stale.insert(key);
            }
        }
        Ok(())
    }

    async fn layer_update(&self, layer: &str) -> Result<(), HostError> {
        self.layer(layer, |layer| {
            if matches!(layer.contents, Contents::Kept) {
                layer.contents = Contents::Filled;
            }
            Ok(())
        })
        .await
    }

    async fn layer_set_metadata(&self, layer: &str, metadata: &str) -> Result<(), HostError> {
        if metadata.len() > METADATA_BYTES_MAX
            || serde_json::from_str::<serde::de::IgnoredAny>(metadata).is_err()
        {
            return Err(refuse(
                "bad-metadata",
                format!("the metadata of the layer '{layer}' is not JSON, or too long"),
            ));
        }
        self.layer(layer, |layer| {
            layer.metadata = metadata.to_owned();
            Ok(())
        })
        .await
    }

    async fn layer_write(
        &self,
        layer: &str,
        path: &str,
        data: Vec<u8>,
        executable: bool,
    ) -> Result<(), HostError> {
        self.put(layer, path, Written::File { data, executable }).await
    }

    async fn layer_symlink(&self, layer: &str, path: &str, target: &str) -> Result<(), HostError> {
        self.put(layer, path, Written::Symlink { target: target.to_owned() }).await
    }

    async fn layer_env(
        &self,
        layer: &str,
        phase: &str,
        operation: &str,
        name: &str,
        value: &str,
    ) -> Result<(), HostError> {
        let wrong = |what: &str| {
            refuse("bad-env", format!("a variable of the layer '{layer}' is refused: {what}"))
        };
        let phases = BTreeMap::from([
            ("all", Phase::All),
            ("build", Phase::Build),
            ("launch", Phase::Launch),
        ]);
        let operations = BTreeMap::from([
            ("append", Operation::Append),
            ("default", Operation::Default),
            ("override", Operation::Override),
            ("prepend", Operation::Prepend),
        ]);
        let phase =
            *phases.get(phase).ok_or_else(|| wrong("the phase is not all, build or launch"))?;
        let operation = *operations
            .get(operation)
            .ok_or_else(|| wrong("the operation is not override, default, append or prepend"))?;
        if name.is_empty()
            || name.len() > 256
            || name.contains(['=', '\0'])
            || value.contains('\0')
            || value.len() > VALUE_BYTES_MAX
        {
            return Err(wrong("its name or value is not valid, or too long"));
        }
        let change = Change { phase, operation, name: name.to_owned(), value: value.to_owned() };
        self.layer(layer, |layer| {
            // The first word of this build takes the place of what the last build said.
            if !layer.changes_set {
                layer.changes.clear();
                layer.changes_set = true;
            }
            if layer.changes.len() >= CHANGES_MAX {
                return Err(wrong("there are too many"));
            }
            layer.changes.push(change);
            Ok(())
        })
        .await
    }

    async fn tool_run(&self, step: Step) -> Result<ToolOutcome, HostError> {
        self.session.run_step(&self.buildpack, step).await
    }

    async fn tool_fetch(
        &self,
        role: &str,
        package: &str,
        version: &str,
        integrity: &str,
    ) -> Result<String, HostError> {
        self.session.fetch(&self.buildpack, role, package, version, integrity).await
    }
}
