//! `cargo xtask`: sets a machine up, builds, checks, tests and runs Berth from its source.
//!
//! It installs what is missing, so that a clean machine needs nothing but cargo, a C compiler and
//! root or sudo. Only apt, `berthd` and the tests that make containers run through sudo.

mod bench;
mod build;
mod check;
mod setup;
mod shell;
mod soak;
mod test;
mod up;
mod vm;
mod web;
mod wit;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  up       install what is missing, build, start a platform in /var/lib/berth-dev,
           deploy the sample apps by git push and stay in the foreground (Ctrl-C stops it);
           --http PORT, --api PORT and --ssh PORT choose other ports than 8080, 8081 and 2222
  test     install what the tests need and run all of them
  test-cgroup2
           the agent's container tests in a virtual machine with cgroup v2 (part of test)
  check    formatting, lints and the rules of the workspace (part of test)
  build    build the console, the programs, the buildpacks and the extensions that ship
  web      check, test and build the console alone (part of build), into web/dist
  bench    measure the release programs beside others: `bench start` (containers beside runc
           and Docker, Wasm, memory), `bench build` (pushes beside docker build), `bench wasm`
           (middleware, Wasm apps beside wasmtime serve behind nginx, a thousand idle apps);
           with --json as data; exit code 1 when a mark is missed
  soak     `soak reload`: 10,000 reloads of an extension, after which memory is as before

Environment: CARGO_TARGET_DIR says where build results go.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["up", options @ ..] => up::run(options),
        ["test", filter @ ..] => test::run(filter),
        ["test-cgroup2", filter @ ..] => setup::for_test().and_then(|()| vm::run(filter)),
        ["check"] => check::run(),
        ["build"] => setup::for_build().and_then(|()| build::all(build::Profile::Dev)).map(drop),
        ["web"] => setup::for_build().and_then(|()| web::all()),
        ["bench", name @ ("start" | "build" | "wasm"), options @ ..] if known(options) => {
            bench::run(name, options)
        }
        ["soak", "reload"] => soak::reload(),
        ["--help" | "-h" | "help"] => {
            print(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            shell::say(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The options of a bench.
fn known(options: &[&str]) -> bool {
    options.iter().all(|option| matches!(*option, "--json" | "--quick"))
}

fn print(text: &str) {
    use std::io::Write;
    // A closed pipe is not an error of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
