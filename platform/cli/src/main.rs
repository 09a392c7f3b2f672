//! `berth`: the command line over the API. It knows nothing that the API does not say.

mod app_name;
mod arguments;
mod artifact;
mod attach;
mod author;
mod client;
mod commands;
mod failure;
mod output;
mod pairs;
mod progress;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let output = output::Output::new(arguments.global.json, arguments.global.quiet);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let done = runtime.block_on(commands::run(arguments, &output));
    // A thread that still waits for keystrokes must not hold the end up.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &failure::Failure) -> ExitCode {
    use std::io::Write;
    if !failure.is_silent() {
        let _ = writeln!(std::io::stderr(), "{failure}");
    }
    ExitCode::from(failure.code())
}
