//! The loop of one who writes an extension: new, build, check, test, run, bench, pack.
//!
//! Takes a folder with an `extension.toml` and gives a component whose imports are what the
//! manifest names. It knows languages and their tools, never the engine: what looks into a
//! component or runs it is `berthd`, which lies beside this program.

mod build;
mod create;
mod engine;
mod javascript;
mod project;
mod python;
mod rust;
mod section;
mod toolchain;
mod wit;

use crate::arguments::{Author, PackExtension};
use crate::failure::Failure;
use crate::output::Output;
use project::Project;

/// Runs one verb.
pub(crate) async fn run(verb: Author, output: &Output) -> Result<(), Failure> {
    match verb {
        Author::New(new) => create::run(&new, output),
        Author::Build(of) => {
            let project = Project::open(&of.folder)?;
            build::run(&project, output).await.map(drop)
        }
        Author::Check(of) => check(&Project::open(&of.folder)?, output).await,
        Author::Pack(pack) => self::pack(&pack, output).await,
    }
}

/// Has the built component looked at.
async fn check(project: &Project, output: &Output) -> Result<(), Failure> {
    let component = project.built()?;
    engine::run(&["ext-check".as_ref(), project.file().as_ref(), component.as_ref()], output).await
}

/// Builds, checks, and copies the component to where others find it.
async fn pack(pack: &PackExtension, output: &Output) -> Result<(), Failure> {
    let project = Project::open(&pack.of.folder)?;
    let component = build::run(&project, output).await?;
    check(&project, output).await?;
    let into = pack.output.clone().unwrap_or_else(|| project.packed());
    std::fs::copy(&component, &into)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", into.display())))?;
    output.note(&format!("-----> Packed as {}", into.display()));
    Ok(())
}
