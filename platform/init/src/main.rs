//! `berth-init`: the static program that the platform brings into its containers.
//!
//! `-- ARGV…` is process 1 of an instance, `--idle` of a build container; `file …` changes files
//! of a build container from within; as `proc-receive` it is git's hook and relays between git
//! and the platform. It takes nothing from the environment, is looked at by no one else's code
//! path, and must never follow a symbolic link for the platform.

mod file;
mod process_one;
mod relay;
mod system;

use std::ffi::OsString;
use std::path::Path;

const USAGE: &str = "usage: berth-init -- PROGRAM [ARGUMENT…] | --idle | hook proc-receive
       | file write PATH MODE | file symlink PATH TARGET | file remove PATH | file extract DIR";

/// Wrong usage.
const EXIT_USAGE: i32 = 2;

fn main() {
    let mut words = std::env::args_os();
    let own = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    std::process::exit(run(&own, &words));
}

fn run(own: &OsString, words: &[OsString]) -> i32 {
    if Path::new(own).file_name().is_some_and(|name| name == "proc-receive") {
        return relay::run();
    }
    let texts: Vec<Option<&str>> = words.iter().map(|word| word.to_str()).collect();
    match texts.as_slice() {
        [Some("--"), _, ..] => process_one::run(&words[1..]),
        [Some("--idle")] => process_one::idle(),
        [Some("hook"), Some("proc-receive")] => relay::run(),
        [Some("file"), Some(verb), ..] => file::run(verb, &words[2..]),
        _ => {
            eprintln!("{USAGE}");
            EXIT_USAGE
        }
    }
}
