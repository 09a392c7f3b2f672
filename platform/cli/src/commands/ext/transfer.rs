//! `berth ext push`, `pull` and `save`: components on their way to other platforms.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use berth_api::ExtensionDetails;
use serde::Serialize;

use super::install;
use crate::arguments::{Pull, Push, Save};
use crate::artifact::{self, COMPONENT_BYTES_MAX, Moved, Told};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress;

/// What a script is told of a file that was written.
#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    told: Told,
    file: PathBuf,
}

pub(super) async fn push(command: &Push, output: &Output) -> Result<(), Failure> {
    let component = install::read(&command.file)?;
    let (reference, file) = (&command.reference, command.file.display().to_string());
    let moved = Moved::default();
    let pushed = artifact::push(reference, &file, component, &moved);
    let what = format!("Pushing to {reference}");
    let pushed = progress::shown(output, &what, pushed, async || moved.told());
    output.value(&pushed.await?, |told| {
        format!("{} {} is {}", told.id, told.version, told.place.as_deref().unwrap_or_default())
    })
}

pub(super) async fn pull(command: &Pull, output: &Output) -> Result<(), Failure> {
    let pulled = pulled(&command.reference, output).await?;
    written(command.output.as_deref(), pulled.told, &pulled.component, output)
}

/// What lies at a place.
pub(super) async fn pulled(
    reference: &str,
    output: &Output,
) -> Result<artifact::Artifact, Failure> {
    let moved = Moved::default();
    let pulled = artifact::pull(reference, &moved);
    let what = format!("Pulling {reference}");
    progress::shown(output, &what, pulled, async || moved.told()).await
}

/// Gets the component of an extension out of the platform. Its bytes are those that the platform
/// names, also when another version is installed meanwhile.
pub(super) async fn save(command: &Save, client: &Client, output: &Output) -> Result<(), Failure> {
    let path = super::path(&command.of);
    let details: ExtensionDetails = client.get(&path).await?;
    let mut came = Came::default();
    let moved = came.moved.clone();
    let what = format!("Saving {}", details.extension.id);
    let path = format!("{path}/component");
    let saved = client.download(&path, &mut came);
    progress::shown(output, &what, saved, async || moved.told()).await?;
    let id = &details.extension.id;
    let told = Told::of(&artifact::manifest_of(id, &came.bytes)?, &came.bytes, None);
    if told.component != details.extension.component {
        return Err(Failure::failed(format!("another version of {id} was installed meanwhile"))
            .with_hint("say it again"));
    }
    written(command.output.as_deref(), told, &came.bytes, output)
}

/// Writes a component where it shall be.
fn written(
    file: Option<&Path>,
    told: Told,
    component: &[u8],
    output: &Output,
) -> Result<(), Failure> {
    let file = file.map_or_else(
        || PathBuf::from(format!("{}-{}.wasm", told.id, told.version)),
        Path::to_owned,
    );
    std::fs::write(&file, component)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))?;
    output.value(&Written { told, file }, |written| {
        let Written { told, file } = written;
        let from = told.place.as_ref().map(|place| format!(", which is {place}"));
        let from = from.unwrap_or_default();
        format!("{} holds {} {}{from}", file.display(), told.id, told.version)
    })
}

/// Takes what a platform sends, up to what a component may have.
#[derive(Default)]
struct Came {
    bytes: Vec<u8>,
    moved: Moved,
}

impl Write for Came {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + piece.len()) as u64 > COMPONENT_BYTES_MAX {
            return Err(io::Error::other("the platform sends more than a component may have"));
        }
        self.moved.add(piece.len());
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
