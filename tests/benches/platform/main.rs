//! `cargo xtask bench start`, `cargo xtask bench build` and `cargo xtask bench wasm`: the platform's figures beside those of
//! others, on this machine, in one run.
//!
//! Takes the name of a bench, `--json`, and `--quick` for the shortest run of `wasm`; gives a table or a document on standard output, and exit
//! code 1 when a mark is missed. It drives the real release programs, and nothing here is measured
//! from inside them.

mod answer;
mod container;
mod docker;
mod docker_build;
mod push;
mod report;
mod runc;
mod wasm;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};

use report::Report;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    // Cargo adds `--bench`.
    let names: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|name| !name.starts_with("--")).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    match measure(&names, quick) {
        Ok(report) => {
            let text = if json { format!("{:#}\n", report.json()) } else { report.table() };
            let _ = std::io::stdout().write_all(text.as_bytes());
            if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(names: &[&str], quick: bool) -> Result<Report> {
    std::fs::create_dir_all("/var/lib/berth-test")?;
    match names {
        ["start"] => {
            let mut report = Report::new("start");
            container::measure(&mut report)?;
            wasm::measure(&mut report)?;
            Ok(report)
        }
        ["build"] => {
            let mut report = Report::new("build");
            docker_build::measure(&mut report)?;
            Ok(report)
        }
        ["wasm"] => {
            let mut report =
                Report::new(if quick { "wasm, too short to say anything" } else { "wasm" });
            let size = if quick { wasm::Size::QUICK } else { wasm::Size::FULL };
            wasm::measure_all(&mut report, &size)?;
            Ok(report)
        }
        _ => bail!("which bench: start, build or wasm?"),
    }
}
