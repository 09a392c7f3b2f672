//! The loop of one who writes a buildpack: new, build, test, pack.
//!
//! Takes a folder with a `buildpack.toml` and gives a component. As with extensions, what looks into
//! a component or runs it is `berthd`, which lies beside this program.

mod create;
mod kit;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use berth_model::buildpack::{BuildpackManifest, BuildpackManifestError};

use super::{build, dev, engine, project, rust, section};
use crate::arguments::{BuildpackAuthor, PackBuildpack, TestBuildpack};
use crate::failure::Failure;
use crate::output::Output;

/// The manifest's file.
const MANIFEST: &str = "buildpack.toml";

/// A buildpack that is being written.
struct Project {
    folder: PathBuf,
    text: String,
    manifest: BuildpackManifest,
}

/// Runs one verb.
pub(crate) async fn run(verb: BuildpackAuthor, output: &Output) -> Result<(), Failure> {
    match verb {
        BuildpackAuthor::New(new) => create::run(&new, output),
        BuildpackAuthor::Build(of) => {
            self::build(&Project::open(&of.folder)?, output).await.map(drop)
        }
        BuildpackAuthor::Test(of) => test(&of, output).await,
        BuildpackAuthor::Pack(of) => pack(&of, output).await,
    }
}

impl Project {
    /// Reads the manifest of a folder.
    fn open(folder: &Path) -> Result<Self, Failure> {
        let file = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Failure::failed(format!("cannot read {}: {error}", file.display())).with_hint(
                "`berth buildpack new NAME` makes the folder of a buildpack; run this in it",
            )
        })?;
        let manifest = BuildpackManifest::parse(&text)
            .map_err(|error| Failure::failed(located(&error, &text, &file)))?;
        if !folder.join("Cargo.toml").is_file() {
            let folder = folder.display();
            return Err(Failure::failed(format!(
                "{folder} has no Cargo.toml: there is nothing to build"
            )));
        }
        Ok(Self { folder: std::path::absolute(folder)?, text, manifest })
    }

    /// Where the component is put.
    fn component(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.manifest.id))
    }

    /// The component, if it was built.
    fn built(&self) -> Result<PathBuf, Failure> {
        let component = self.component();
        if component.is_file() {
            return Ok(component);
        }
        Err(Failure::failed(format!("there is no {}: build it first", component.display()))
            .with_hint("berth buildpack build"))
    }
}

/// The refusal of a manifest with its file, and the line where it is known.
fn located(error: &BuildpackManifestError, text: &str, file: &Path) -> String {
    let file = file.display();
    match error {
        BuildpackManifestError::Value { key, reason } => match project::line_of(text, key) {
            Some(line) => format!("{file}:{line}: {key}: {reason}"),
            None => format!("{file}: {key}: {reason}"),
        },
        BuildpackManifestError::Form(said) => match said.strip_prefix("line ") {
            Some(said) => format!("{file}:{said}"),
            None => format!("{file}: {said}"),
        },
    }
}

/// Builds and gives the path of the component.
async fn build(project: &Project, output: &Output) -> Result<PathBuf, Failure> {
    let begun = Instant::now();
    output.note(&format!("-----> Building {}", project.manifest.id));
    kit::write(&project.folder)?;
    let raw = rust::build(&project.folder, output).await?;
    let bytes = std::fs::read(&raw)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", raw.display())))?;
    let whole = section::with_manifest(&bytes, section::BUILDPACK, &project.text);
    let component = project.component();
    build::replace(&component, &whole)?;
    output.note(&format!(
        "-----> Built {} ({}, {:.1} s)",
        component.display(),
        build::size(whole.len()),
        begun.elapsed().as_secs_f32()
    ));
    Ok(component)
}

/// Runs the cases.
async fn test(of: &TestBuildpack, output: &Output) -> Result<(), Failure> {
    let project = Project::open(&of.of.folder)?;
    let component = project.built()?;
    let mut arguments: Vec<OsString> = vec!["buildpack-test".into(), component.into()];
    let cases = project::cases(&project.folder, of.case.as_deref())?;
    arguments.extend(cases.into_iter().map(PathBuf::into_os_string));
    engine::run(&arguments, output).await
}

/// Builds where something changed, checks, and copies the component to where others find it.
async fn pack(pack: &PackBuildpack, output: &Output) -> Result<(), Failure> {
    let project = Project::open(&pack.of.folder)?;
    let component = match project.built() {
        Ok(component) if dev::is_younger(&component, &project.folder)? => component,
        _ => build(&project, output).await?,
    };
    let arguments: Vec<OsString> =
        vec!["buildpack-check".into(), project.folder.join(MANIFEST).into(), (&component).into()];
    engine::run(&arguments, output).await?;
    let BuildpackManifest { id, version, .. } = &project.manifest;
    let packed = || project.folder.join(format!("{id}-{version}.wasm"));
    let into = pack.output.clone().unwrap_or_else(packed);
    std::fs::copy(&component, &into)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", into.display())))?;
    output.note(&format!("-----> Packed as {}", into.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_the_manifest_is_named_with_file_and_line() {
        let good =
            "[buildpack]\nid = \"make\"\nversion = \"1.0.0\"\napi = \"berth:buildpack@0.1.0\"\n";
        let refusal = |from: &str, to: &str| {
            let text = good.replace(from, to);
            let error = BuildpackManifest::parse(&text).unwrap_err();
            located(&error, &text, Path::new("x/buildpack.toml"))
        };
        let said = refusal("1.0.0", "1");
        assert!(said.starts_with("x/buildpack.toml:3: buildpack.version: "), "{said}");
        let said = refusal("id =", "ids =");
        assert!(said.starts_with("x/buildpack.toml:2: unknown field `ids`"), "{said}");
    }
}
