//! Runs `berthd`, which has the engine that this program must not link.

use std::ffi::OsString;
use std::path::PathBuf;

use tokio::process::Command;

use crate::failure::Failure;
use crate::output::Output;

/// Exit code of a command that was used wrongly, and of a test or check that failed.
const EXPECTED: [i32; 2] = [1, 2];

/// Runs one verb of `berthd`, which speaks for itself; its exit code is ours.
pub(crate) async fn run(arguments: &[OsString], output: &Output) -> Result<(), Failure> {
    let program = program();
    let mut command = Command::new(&program);
    command.args(arguments);
    if output.is_json() {
        command.arg("--json");
    }
    let status = command.status().await.map_err(|error| {
        Failure::failed(format!("cannot start {}: {error}", program.display())).with_hint(
            "`berthd` of the same version must lie beside `berth`: it has the sandbox that \
             extensions run in",
        )
    })?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if EXPECTED.contains(&code) => Err(Failure::exit(code)),
        _ => Err(Failure::failed(format!("{} ended with {status}", program.display()))),
    }
}

/// The one beside this program, or whichever is on the PATH.
fn program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name("berthd"))
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| PathBuf::from("berthd"))
}
