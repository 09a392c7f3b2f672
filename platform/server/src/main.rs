//! `berthd`: one program that is the control process, the router, the Wasm worker or the compiler,
//! by its first argument.

use std::process::ExitCode;

use berthd::args::{Arguments, Command};
use clap::Parser;

/// The configuration is wrong; starting again changes nothing (sysexits' EX_USAGE).
const BAD_CONFIG: u8 = 64;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Serve(options) => match berthd::serve::run(&options) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => {
                complain(&error);
                return ExitCode::from(BAD_CONFIG);
            }
        },
        Command::Down(options) => berthd::down::run(&options),
        Command::AdminTokenReset(options) => berthd::down::reset_admin_token(&options),
        Command::Route(options) => berthd::worker::route(&options),
        Command::Wasm(options) => berthd::worker::wasm(&options),
        Command::Compile { engine } => berthd::worker::compile(&engine),
        Command::BuildpackTool(tool) => match berthd::buildpack_tools::run(&tool) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::ExtTool(tool) => match berthd::ext_tools::run(&tool) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &anyhow::Error) {
    use std::io::Write;
    // Nothing can be done about a closed standard error.
    let _ = writeln!(std::io::stderr(), "berthd: {error:#}");
}
