//! Rust: cargo makes a component of the target wasm32-wasip2.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::{build, toolchain};
use crate::failure::Failure;
use crate::output::Output;

const TARGET: &str = "wasm32-wasip2";

/// Runs cargo and gives the path of what it made.
pub(crate) async fn build(folder: &Path, output: &Output) -> Result<PathBuf, Failure> {
    toolchain::program("cargo", "install Rust with rustup (https://rustup.rs)")?;
    target(output).await?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(folder).args([
        "build",
        "--quiet",
        "--release",
        "--target",
        TARGET,
        "--message-format=json-render-diagnostics",
    ]);
    let said = build::tool("Compiling with cargo", &mut cargo, output).await?;
    let warnings = String::from_utf8_lossy(&said.stderr);
    if !warnings.trim().is_empty() {
        output.note(warnings.trim_end());
    }
    artifact(&String::from_utf8_lossy(&said.stdout)).ok_or_else(|| {
        Failure::failed("cargo made no component")
            .with_hint("Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\"]`")
    })
}

/// Makes sure that the target's standard library is there.
async fn target(output: &Output) -> Result<(), Failure> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]);
    let said = build::tool("Asking rustc", &mut rustc, output).await?;
    let folder = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim());
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::failed(format!("Rust's target {TARGET} is not installed"))
        .with_hint(format!("rustup target add {TARGET}")))
}

/// The last library that cargo says it made: dependencies come first.
fn artifact(messages: &str) -> Option<PathBuf> {
    let made = messages.lines().rev().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let files = message.get("filenames")?.as_array()?;
        files
            .iter()
            .filter_map(|file| file.as_str())
            .find(|file| file.ends_with(".wasm"))
            .map(PathBuf::from)
    });
    made.into_iter().next()
}
