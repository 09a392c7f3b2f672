//! The loop of one who writes an extension: new, build, check, test, run, bench, pack.
//!
//! Takes a folder with an `extension.toml` and gives a component whose imports are what the
//! manifest names. It knows languages and their tools, never the engine: what looks into a
//! component or runs it is `berthd`, which lies beside this program.

mod build;
pub(crate) mod buildpack;
mod create;
mod dev;
mod engine;
mod javascript;
mod project;
mod python;
mod rust;
mod section;
mod toolchain;
mod wit;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::arguments::{Author, BenchExtension, PackExtension, RunExtension};
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
        Author::Test(of) => {
            test(&Project::open(&of.of.folder)?, of.case.as_deref(), of.record, output).await
        }
        Author::Run(of) => self::run_once(&of, output).await,
        Author::Bench(of) => bench(&of, output).await,
        Author::Dev(of) => dev::run(&of, output).await,
        Author::Pack(pack) => self::pack(&pack, output).await,
    }
}

/// Has the built component looked at.
async fn check(project: &Project, output: &Output) -> Result<(), Failure> {
    let component = project.built()?;
    let arguments: Vec<OsString> =
        vec!["ext-check".into(), project.file().into(), component.into()];
    engine::run(&arguments, output).await
}

/// Runs the cases.
async fn test(
    project: &Project,
    case: Option<&str>,
    record: bool,
    output: &Output,
) -> Result<(), Failure> {
    let component = project.built()?;
    let mut arguments: Vec<OsString> = vec!["ext-test".into(), component.into()];
    arguments
        .extend(project::cases(&project.folder, case)?.into_iter().map(PathBuf::into_os_string));
    arguments.extend(record.then(|| "--record".into()));
    engine::run(&arguments, output).await
}

/// Runs it once.
async fn run_once(of: &RunExtension, output: &Output) -> Result<(), Failure> {
    let component = Project::open(&of.of.folder)?.built()?;
    let arguments: Vec<OsString> =
        vec!["ext-run".into(), component.into(), "--event".into(), of.event.clone().into()];
    engine::run(&arguments, output).await
}

/// Measures it.
async fn bench(of: &BenchExtension, output: &Output) -> Result<(), Failure> {
    let project = Project::open(&of.of.folder)?;
    let component = project.built()?;
    let case = project::cases(&project.folder, of.case.as_deref())?.swap_remove(0);
    let seconds = of.seconds.to_string().into();
    let arguments: Vec<OsString> = vec![
        "ext-bench".into(),
        component.into(),
        "--case".into(),
        case.into(),
        "--seconds".into(),
        seconds,
    ];
    engine::run(&arguments, output).await
}

/// Builds, checks, and copies the component to where others find it. What was built, and tested,
/// since the last change is packed as it is: not every language's tools give the same bytes again.
async fn pack(pack: &PackExtension, output: &Output) -> Result<(), Failure> {
    let project = Project::open(&pack.of.folder)?;
    let component = match project.built() {
        Ok(component) if dev::is_younger(&component, &project.folder)? => component,
        _ => build::run(&project, output).await?,
    };
    check(&project, output).await?;
    let into = pack.output.clone().unwrap_or_else(|| project.packed());
    std::fs::copy(&component, &into)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", into.display())))?;
    output.note(&format!("-----> Packed as {}", into.display()));
    Ok(())
}
