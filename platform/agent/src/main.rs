//! `berth-agent`: the only program of Berth that works as root.
//!
//! `serve --data DIR [--network RANGE] [--no-private-ranges]` listens for berthd's requests; `run --dir DIR` holds one container and is
//! started by `serve` alone. What comes from outside is an id, a digest, an enum or a bounded
//! number; everything else is a descriptor that is handed on unread.

mod agent_log;
mod cgroup;
mod confined;
mod connection;
mod context;
mod disk;
mod down;
mod exec;
mod failure;
mod gc;
mod instances;
mod layers;
mod machine;
mod measures;
mod network;
mod run_wire;
mod runner;
mod serve;
mod server;
mod stack;
mod start;
mod stop;
mod tool;
mod volumes;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

use berth_container::NetworkSettings;

/// Where the host's own programs are looked up; the agent's environment is not trusted.
pub(crate) const PROGRAM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (verb, rest) = words.split_first().map_or((None, &[][..]), |(v, rest)| (v.to_str(), rest));
    let outcome = match (verb, rest) {
        (Some("serve"), [flag, folder, rest @ ..]) if flag == "--data" => {
            settings(rest).map(|settings| serve::serve(folder.as_ref(), settings))
        }
        (Some("run"), [flag, folder]) if flag == "--dir" => Some(runner::run(folder.into())),
        (Some("confined"), []) => Some(confined::run()),
        _ => None,
    };
    let Some(outcome) = outcome else {
        eprintln!(
            "usage: berth-agent serve --data DIR [--network A.B.0.0/16] [--no-private-ranges] \
             | berth-agent run --dir DIR"
        );
        return ExitCode::from(2);
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("berth-agent: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What berthd says about the network of instances.
fn settings(words: &[OsString]) -> Option<NetworkSettings> {
    let mut settings = NetworkSettings::default();
    let mut words = words.iter().map(|word| word.to_str());
    while let Some(word) = words.next() {
        match word? {
            "--network" => settings.range = Some(words.next()??.parse().ok()?),
            "--no-private-ranges" => settings.private_ranges = false,
            _ => return None,
        }
    }
    Some(settings)
}
