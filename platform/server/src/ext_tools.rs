//! What `berth ext check|test|run|bench` has done by this program, which has the sandbox.
//!
//! Takes a built extension, and cases or an event from files; gives a report. Extensions run as a
//! platform would run them: the same engine, limits and grants, with everything granted that the
//! manifest asks for. Nothing here talks to a platform or keeps anything but compiled code.

mod addon;
mod bench;
mod call;
mod case;
mod check;
mod component;
mod host;
mod recording;
mod run;
mod test;

pub(crate) use component::{bounded, compiled};

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

/// The tools.
#[derive(Subcommand, Debug)]
pub enum ExtTool {
    /// Judge a component as an installation would
    #[command(hide = true)]
    ExtCheck(Check),
    /// Run the cases of an extension
    #[command(hide = true)]
    ExtTest(Test),
    /// Run an extension once
    #[command(hide = true)]
    ExtRun(Run),
    /// Measure an extension
    #[command(hide = true)]
    ExtBench(Bench),
}

/// What is judged.
#[derive(Args, Debug)]
pub struct Check {
    /// Manifest that the component must hold
    pub manifest: PathBuf,
    /// The component
    pub component: PathBuf,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is tested.
#[derive(Args, Debug)]
pub struct Test {
    /// The component
    pub component: PathBuf,
    /// Files of cases
    #[arg(required = true)]
    pub cases: Vec<PathBuf>,
    /// Send requests and write the answers down, instead of reading them
    #[arg(long)]
    pub record: bool,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is run.
#[derive(Args, Debug)]
pub struct Run {
    /// The component
    pub component: PathBuf,
    /// A case, or its input alone as JSON
    #[arg(long)]
    pub event: PathBuf,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is measured.
#[derive(Args, Debug)]
pub struct Bench {
    /// The component
    pub component: PathBuf,
    /// The case whose input is used
    #[arg(long)]
    pub case: PathBuf,
    /// How long, seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: u32,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs one; false when what was judged is not good, which the report says.
///
/// # Errors
/// When it could not be judged.
pub fn run(tool: &ExtTool) -> Result<bool> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match tool {
            ExtTool::ExtCheck(options) => check::run(options).await,
            ExtTool::ExtTest(options) => test::run(options).await,
            ExtTool::ExtRun(options) => run::run(options).await,
            ExtTool::ExtBench(options) => bench::run(options).await,
        }
    })
}

/// Writes a report: a line for people or a line of JSON.
pub(crate) fn print(json: bool, value: &serde_json::Value, human: &str) {
    use std::io::Write;
    let text = if json { value.to_string() } else { human.trim_end().to_owned() };
    // Whoever closed standard output has read enough.
    let _ = writeln!(std::io::stdout(), "{text}");
}
