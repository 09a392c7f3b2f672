//! `cargo xtask bench start|build|wasm`: the figures of the release programs beside those of others.
//!
//! Installs what is measured against and builds; the measuring itself is a bench of the crate
//! `acceptance`, because it drives the real programs as the tests do. Its exit code is ours.

use anyhow::Result;

use crate::build::Profile;
use crate::{build, setup, shell};

/// Runs one bench; what it prints goes to standard output, everything else to standard error.
pub(crate) fn run(name: &str, options: &[&str]) -> Result<()> {
    setup::for_test()?;
    let wasmtime = if name == "wasm" { Some(setup::for_wasm_bench()?) } else { None };
    let programs = build::all(Profile::Release)?;
    let mut cargo = shell::command("cargo");
    cargo
        .args(["bench", "--quiet", "--locked", "-p", "acceptance", "--bench", "platform", "--"])
        .arg(name)
        .args(options)
        .env("BERTH_PROGRAMS", programs);
    if let Some(wasmtime) = wasmtime {
        cargo.env("BERTH_WASMTIME", wasmtime);
    }
    shell::as_root_runner(&mut cargo);
    shell::run(&mut cargo)
}
