//! The host of a trial: that of a build, but for tools, with an eye on what it is asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use berth_extensions::buildpack::{BuildpackHost, Entry, HostError, LogLevel, Step, ToolOutcome};

use super::{Seen, Tool};
use crate::fetch;
use crate::host::Host;

/// Calls that are noted, and bytes that are kept of what is written.
const CALLS_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 << 20;

pub(super) struct TrialHost {
    pub(super) host: Host,
    pub(super) tools: Mutex<VecDeque<Tool>>,
    pub(super) seen: Arc<Mutex<Seen>>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TrialHost {
    fn note(&self, call: String) {
        let mut seen = locked(&self.seen);
        if seen.calls.len() < CALLS_MAX {
            seen.calls.push(call);
        }
    }

    fn keep(&self, path: String, data: Vec<u8>) {
        let mut seen = locked(&self.seen);
        let kept: usize = seen.files.values().map(Vec::len).sum();
        if kept + data.len() <= BYTES_MAX {
            seen.files.insert(path, data);
        }
    }

    /// How the next tool ends.
    fn answer(&self, argv: &[String]) -> Result<Tool, HostError> {
        let next = locked(&self.tools).pop_front();
        let what = argv.join(" ");
        let problem = match next {
            Some(tool) if tool.argv.is_empty() || tool.argv == argv => return Ok(tool),
            Some(tool) => {
                format!("'{what}' was run where the case has '{}'", tool.argv.join(" "))
            }
            None => format!("'{what}' was run, but the case has no more steps; add a [[steps]]"),
        };
        locked(&self.seen).problems.push(problem.clone());
        Err(HostError::Broken(problem.into()))
    }
}

#[async_trait]
impl BuildpackHost for TrialHost {
    async fn source_kind(&self, path: &str) -> Result<String, HostError> {
        self.host.source_kind(path).await
    }

    async fn source_read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, HostError> {
        self.host.source_read(path, bytes_max).await
    }

    async fn source_glob(&self, patterns: &[String]) -> Result<Vec<String>, HostError> {
        self.host.source_glob(patterns).await
    }

    async fn source_digest(&self, patterns: &[String]) -> Result<String, HostError> {
        self.host.source_digest(patterns).await
    }

    fn log_header(&self, text: &str) {
        self.host.log_header(text);
    }

    fn log_line(&self, level: LogLevel, text: &str) {
        self.host.log_line(level, text);
    }

    async fn inventory_entries(&self, role: &str, package: &str) -> Result<Vec<Entry>, HostError> {
        self.host.inventory_entries(role, package).await
    }

    async fn workspace_write(
        &self,
        path: &str,
        data: Vec<u8>,
        executable: bool,
    ) -> Result<(), HostError> {
        self.host.workspace_write(path, data.clone(), executable).await?;
        self.note(format!("write workspace/{path}"));
        self.keep(format!("workspace/{path}"), data);
        Ok(())
    }

    async fn workspace_symlink(&self, path: &str, target: &str) -> Result<(), HostError> {
        self.host.workspace_symlink(path, target).await?;
        self.note(format!("link workspace/{path} {target}"));
        Ok(())
    }

    async fn workspace_remove(&self, patterns: &[String]) -> Result<u32, HostError> {
        let count = self.host.workspace_remove(patterns).await?;
        self.note(format!("remove {}", patterns.join(" ")));
        Ok(count)
    }

    async fn layer_open(&self, name: &str, kinds: &[String]) -> Result<(), HostError> {
        self.host.layer_open(name, kinds).await?;
        self.note(format!("open {name} {}", kinds.join(",")).trim_end().to_owned());
        Ok(())
    }

    async fn layer_path(&self, layer: &str) -> Result<String, HostError> {
        self.host.layer_path(layer).await
    }

    async fn layer_restored(&self, layer: &str) -> Result<Option<String>, HostError> {
        self.host.layer_restored(layer).await
    }

    async fn layer_clear(&self, layer: &str) -> Result<(), HostError> {
        self.host.layer_clear(layer).await
    }

    async fn layer_update(&self, layer: &str) -> Result<(), HostError> {
        self.host.layer_update(layer).await
    }

    async fn layer_set_metadata(&self, layer: &str, metadata: &str) -> Result<(), HostError> {
        self.host.layer_set_metadata(layer, metadata).await
    }

    async fn layer_write(
        &self,
        layer: &str,
        path: &str,
        data: Vec<u8>,
        executable: bool,
    ) -> Result<(), HostError> {
        self.host.layer_write(layer, path, data.clone(), executable).await?;
        self.note(format!("write {layer}/{path}"));
        self.keep(format!("{layer}/{path}"), data);
        Ok(())
    }

    async fn layer_symlink(&self, layer: &str, path: &str, target: &str) -> Result<(), HostError> {
        self.host.layer_symlink(layer, path, target).await?;
        self.note(format!("link {layer}/{path} {target}"));
        Ok(())
    }

    async fn layer_env(
        &self,
        layer: &str,
        phase: &str,
        operation: &str,
        name: &str,
        value: &str,
    ) -> Result<(), HostError> {
        self.host.layer_env(layer, phase, operation, name, value).await?;
        self.note(format!("env {layer} {phase} {operation} {name}={value}"));
        Ok(())
    }

    async fn tool_run(&self, step: Step) -> Result<ToolOutcome, HostError> {
        {
            let state = &mut *self.host.session.state.lock().await;
            self.host.session.admit(state, &self.host.buildpack, &step)?;
        }
        self.note(format!("run {}", step.argv.join(" ")));
        let tool = self.answer(&step.argv)?;
        let stdout = if step.capture { tool.stdout.into_bytes() } else { Vec::new() };
        Ok(ToolOutcome { exit_code: tool.exit_code, oom_killed: false, timed_out: false, stdout })
    }

    async fn tool_fetch(
        &self,
        role: &str,
        package: &str,
        version: &str,
        integrity: &str,
    ) -> Result<String, HostError> {
        let wanted = fetch::admit(role, package, version, integrity)?;
        self.note(format!("fetch {role} {package} {version}"));
        Ok(wanted.file)
    }
}
