//! The world's host functions: each is counted, bounded and handed to the build room.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::wit::berth::buildpack::{inventory, layers, log, source, tools, types, workspace};
use super::{BuildpackHost, Failure, HostError, LogLevel, Step, ToolOutcome};
use crate::limits::{Fault, Guest, Sandbox, Stopped};
use crate::lines::{LINE_BYTES_MAX, printable};

/// State of a buildpack's store.
pub(crate) struct State {
    pub(super) sandbox: Sandbox,
    pub(super) host: Arc<dyn BuildpackHost>,
    /// False while it detects.
    pub(super) building: bool,
}

/// An open layer.
#[expect(unreachable_pub, reason = "the macro re-exports it from a module that is private too")]
pub struct Layer {
    name: String,
}

impl Guest for State {
    fn sandbox(&mut self) -> &mut Sandbox {
        &mut self.sandbox
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.sandbox.view()
    }
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    super::wit::Buildpack::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

impl State {
    /// Counts a call.
    fn counted(&self) -> Result<(), HostError> {
        if self.sandbox.meter.count_host_call() {
            Ok(())
        } else {
            Err(HostError::Broken(Stopped(Fault::HostCalls).into()))
        }
    }

    /// Counts a call that only a build may make.
    fn building(&self, what: &str) -> Result<(), HostError> {
        self.counted()?;
        if self.building {
            return Ok(());
        }
        Err(HostError::Failure(Failure {
            code: "not-while-detecting".to_owned(),
            message: format!(
                "{what} cannot be used while a buildpack detects, only while it builds"
            ),
            retry: false,
            extra: Vec::new(),
        }))
    }

    fn text(&self, text: &str) -> wasmtime::Result<String> {
        self.counted().map_err(ended)?;
        if self.sandbox.meter.count_output(text.len()) {
            Ok(printable(text, LINE_BYTES_MAX))
        } else {
            Err(Stopped(Fault::Output).into())
        }
    }

    fn layer(&self, layer: &Resource<Layer>) -> wasmtime::Result<String> {
        self.counted().map_err(ended)?;
        Ok(self.sandbox.table.get(layer)?.name.clone())
    }
}

/// The error that ends the guest.
fn ended(error: HostError) -> wasmtime::Error {
    match error {
        HostError::Broken(error) => match error.downcast::<Stopped>() {
            Ok(stopped) => (*stopped).into(),
            Err(error) => HostError::Broken(error).into(),
        },
        failure @ HostError::Failure(_) => failure.into(),
    }
}

impl types::Host for State {
    fn convert_failure(&mut self, error: HostError) -> wasmtime::Result<Failure> {
        match error {
            HostError::Failure(failure) => Ok(failure),
            broken => Err(ended(broken)),
        }
    }
}

impl source::Host for State {
    async fn kind(&mut self, path: String) -> wasmtime::Result<String> {
        self.counted().map_err(ended)?;
        self.host.source_kind(&path).await.map_err(ended)
    }

    async fn read(&mut self, path: String, bytes_max: u64) -> Result<Vec<u8>, HostError> {
        self.counted()?;
        let carried = u64::from(self.sandbox.meter.limits().call_bytes_max);
        self.host.source_read(&path, bytes_max.min(carried)).await
    }

    async fn glob(&mut self, patterns: Vec<String>) -> wasmtime::Result<Vec<String>> {
        self.counted().map_err(ended)?;
        self.host.source_glob(&patterns).await.map_err(ended)
    }

    async fn digest(&mut self, patterns: Vec<String>) -> wasmtime::Result<String> {
        self.counted().map_err(ended)?;
        self.host.source_digest(&patterns).await.map_err(ended)
    }
}

impl log::Host for State {
    async fn header(&mut self, text: String) -> wasmtime::Result<()> {
        let text = self.text(&text)?;
        self.host.log_header(&text);
        Ok(())
    }

    async fn line(&mut self, level: String, text: String) -> wasmtime::Result<()> {
        let level = match level.as_str() {
            "warning" => LogLevel::Warning,
            "error" => LogLevel::Error,
            "debug" => LogLevel::Debug,
            _ => LogLevel::Info,
        };
        let text = self.text(&text)?;
        self.host.log_line(level, &text);
        Ok(())
    }
}

impl inventory::Host for State {
    async fn entries(
        &mut self,
        role: String,
        package: String,
    ) -> wasmtime::Result<Vec<inventory::Entry>> {
        self.counted().map_err(ended)?;
        self.host.inventory_entries(&role, &package).await.map_err(ended)
    }
}

impl workspace::Host for State {
    async fn write(
        &mut self,
        path: String,
        data: Vec<u8>,
        executable: bool,
    ) -> Result<(), HostError> {
        self.building("workspace.write")?;
        self.host.workspace_write(&path, data, executable).await
    }

    async fn symlink(&mut self, path: String, target: String) -> Result<(), HostError> {
        self.building("workspace.symlink")?;
        self.host.workspace_symlink(&path, &target).await
    }

    async fn remove(&mut self, patterns: Vec<String>) -> Result<u32, HostError> {
        self.building("workspace.remove")?;
        self.host.workspace_remove(&patterns).await
    }
}

impl layers::Host for State {
    async fn open(
        &mut self,
        name: String,
        kinds: Vec<String>,
    ) -> Result<Resource<Layer>, HostError> {
        self.building("layers.open")?;
        self.host.layer_open(&name, &kinds).await?;
        self.sandbox.table.push(Layer { name }).map_err(|error| HostError::Broken(error.into()))
    }
}

impl layers::HostLayer for State {
    async fn path(&mut self, layer: Resource<Layer>) -> wasmtime::Result<String> {
        let layer = self.layer(&layer)?;
        self.host.layer_path(&layer).await.map_err(ended)
    }

    async fn restored(&mut self, layer: Resource<Layer>) -> wasmtime::Result<Option<String>> {
        let layer = self.layer(&layer)?;
        self.host.layer_restored(&layer).await.map_err(ended)
    }

    async fn clear(&mut self, layer: Resource<Layer>) -> wasmtime::Result<()> {
        let layer = self.layer(&layer)?;
        self.host.layer_clear(&layer).await.map_err(ended)
    }

    async fn update(&mut self, layer: Resource<Layer>) -> wasmtime::Result<()> {
        let layer = self.layer(&layer)?;
        self.host.layer_update(&layer).await.map_err(ended)
    }

    async fn set_metadata(
        &mut self,
        layer: Resource<Layer>,
        metadata: String,
    ) -> wasmtime::Result<()> {
        let layer = self.layer(&layer)?;
        self.host.layer_set_metadata(&layer, &metadata).await.map_err(ended)
    }

    async fn write(
        &mut self,
        layer: Resource<Layer>,
        path: String,
        data: Vec<u8>,
        executable: bool,
    ) -> Result<(), HostError> {
        let layer = self.layer(&layer).map_err(broken)?;
        self.host.layer_write(&layer, &path, data, executable).await
    }

    async fn symlink(
        &mut self,
        layer: Resource<Layer>,
        path: String,
        target: String,
    ) -> Result<(), HostError> {
        let layer = self.layer(&layer).map_err(broken)?;
        self.host.layer_symlink(&layer, &path, &target).await
    }

    async fn env(
        &mut self,
        layer: Resource<Layer>,
        phase: String,
        operation: String,
        name: String,
        value: String,
    ) -> wasmtime::Result<()> {
        let layer = self.layer(&layer)?;
        self.host.layer_env(&layer, &phase, &operation, &name, &value).await.map_err(ended)
    }

    async fn drop(&mut self, layer: Resource<Layer>) -> wasmtime::Result<()> {
        self.sandbox.table.delete(layer)?;
        Ok(())
    }
}

/// The error of a table or of the count, on its way through a function that can fail.
fn broken(error: wasmtime::Error) -> HostError {
    match error.downcast::<Stopped>() {
        Ok(stopped) => HostError::Broken(stopped.into()),
        Err(error) => HostError::Broken(error.into()),
    }
}

impl tools::Host for State {
    async fn run(&mut self, step: Step) -> Result<ToolOutcome, HostError> {
        self.building("tools.run")?;
        let _not_counted = self.sandbox.meter.pause();
        self.host.tool_run(step).await
    }

    async fn fetch(
        &mut self,
        role: String,
        package: String,
        version: String,
        integrity: String,
    ) -> Result<String, HostError> {
        self.building("tools.fetch")?;
        let _not_counted = self.sandbox.meter.pause();
        self.host.tool_fetch(&role, &package, &version, &integrity).await
    }
}
