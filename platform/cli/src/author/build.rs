//! From source to a component with its manifest in it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output as Said, Stdio};
use std::time::Instant;

use tokio::process::Command;

use super::project::Project;
use super::{javascript, python, rust, section, wit};
use crate::arguments::Language;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress;

/// Where the languages' tools leave what they make.
const BUILD_FOLDER: &str = "target";

/// Builds and gives the path of the component.
pub(crate) async fn run(project: &Project, output: &Output) -> Result<PathBuf, Failure> {
    let begun = Instant::now();
    output.note(&format!("-----> Building {}", project.manifest.id));
    wit::write(&project.folder, &project.manifest)?;
    let raw = match project.language {
        Language::Rust => rust::build(&project.folder, output).await?,
        Language::Js => javascript::build(project, output).await?,
        Language::Python => python::build(project, output).await?,
    };
    let bytes = std::fs::read(&raw)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", raw.display())))?;
    let whole = section::with_manifest(&bytes, section::EXTENSION, &project.text);
    let component = project.component();
    replace(&component, &whole)?;
    output.note(&format!(
        "-----> Built {} ({}, {:.1} s)",
        component.display(),
        size(whole.len()),
        begun.elapsed().as_secs_f32()
    ));
    Ok(component)
}

/// The folder for intermediate files, which exists then.
pub(crate) fn scratch(project: &Project) -> Result<PathBuf, Failure> {
    let folder = project.folder.join(BUILD_FOLDER);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Whoever reads the file sees the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let beside = path.with_extension("wasm.new");
    std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

/// Runs a tool that takes a while and gives what it said, which is shown when it fails.
pub(crate) async fn tool(
    what: &str,
    command: &mut Command,
    output: &Output,
) -> Result<Said, Failure> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let done = progress::shown(output, what, running, async || None)
        .await
        .map_err(|error| Failure::failed(format!("cannot start {program}: {error}")))?;
    if done.status.success() {
        return Ok(done);
    }
    let said = [&done.stdout[..], &done.stderr[..]].map(String::from_utf8_lossy).concat();
    Err(Failure::failed(format!("{what} failed ({})\n{}", ended(done.status), for_people(&said))))
}

/// What a tool said, without cargo's messages for programs.
fn for_people(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("{\"reason\"")).collect();
    lines.join("\n").trim_end().to_owned()
}

fn ended(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

pub(crate) fn size(bytes: usize) -> String {
    let kib = bytes.div_ceil(1024);
    if kib < 1024 {
        format!("{kib} KiB")
    } else {
        format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_for_programs_are_left_out() {
        let said = "{\"reason\":\"compiler-artifact\"}\nerror: expected `;`\n{\"reason\":\"build-finished\"}\n";
        assert_eq!(for_people(said), "error: expected `;`");
        assert_eq!(for_people("{ \"an\": \"object\" }\n"), "{ \"an\": \"object\" }");
    }
}
