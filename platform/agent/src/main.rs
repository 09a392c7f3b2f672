//! `berth-agent`: the only program of Berth that works as root.
//!
//! `serve --data DIR` listens for berthd's requests; `run --dir DIR` holds one container and is
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
mod network;
mod run_wire;
mod runner;
mod serve;
mod server;
mod stack;
mod start;
mod stop;
mod tool;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

/// Where the host's own programs are looked up; the agent's environment is not trusted.
pub(crate) const PROGRAM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let verb = words.next();
    let flag = words.next();
    let folder = words.next().map(PathBuf::from);
    let known = (verb.as_ref().and_then(|v| v.to_str()), flag.as_ref().and_then(|f| f.to_str()));
    let outcome = match (known, folder, words.next()) {
        ((Some("serve"), Some("--data")), Some(folder), None) => serve::serve(&folder),
        ((Some("run"), Some("--dir")), Some(folder), None) => runner::run(folder),
        ((Some("confined"), None), None, None) => confined::run(),
        _ => {
            eprintln!("usage: berth-agent serve --data DIR | berth-agent run --dir DIR");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("berth-agent: {failure}");
            ExitCode::FAILURE
        }
    }
}
