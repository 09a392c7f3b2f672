//! `Tool`: bounded programs on hostile input: git on a pack from outside, the Wasm compiler on a
//! component.
//!
//! Each runs as the tool id in a control group of its own, without network, in a view that shows
//! the system's programs and one repository. Descriptors are the caller's and are passed on
//! unread. When the caller closes its connection, or the time is over, everything is killed.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_container::{Engine, Exit, Reply, Tool};
use berth_model::AppId;

use crate::cgroup::LeafLimits;
use crate::confined::{self, Event, Job, Limits, Program, Said, Shown};
use crate::connection::Connection;
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::server::Answer;

/// A 616 KB pack made git use 942 MB: this is what bounds it.
const LIMITS: LeafLimits = LeafLimits { memory_bytes: 512 << 20, cpu_milli: 2000, pids: 64 };
/// Where the repository is in the view.
const REPOSITORY: &str = "repository";
/// A push waits for its build, and a slow client for its line.
const RECEIVE_TIME_MAX: Duration = Duration::from_secs(2 * 3600);
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(3600);
const COMPILE_TIME_MAX: Duration = Duration::from_secs(300);
/// git's own bound on a pack is only kept while it reads; this one by the kernel.
const PACK_MIB_MAX: u32 = 16 * 1024;

/// The verb.
pub(crate) fn run(
    context: &Context,
    connection: &Connection,
    tool: Tool,
    descriptors: Vec<OwnedFd>,
) -> Answer {
    let wanted = if matches!(tool, Tool::ReceivePack { .. }) { 3..=4 } else { 3..=3 };
    if !wanted.contains(&descriptors.len()) {
        return Err(Failure::refused(format!(
            "{} descriptors came with the tool; it takes standard input, output and error{}",
            descriptors.len(),
            if wanted.contains(&4) { ", and the hooks' socket" } else { "" }
        )));
    }
    let (program, time_max) = plan(context, &tool)?;
    let child = confined::start(context, LIMITS, Job::Program(program), &descriptors)?;
    // The other ends must see the tool's end, not ours.
    drop(descriptors);
    watch(child, connection, Instant::now() + time_max)
}

/// Waits for the tool's end, however it comes.
fn watch(mut child: confined::Confined, connection: &Connection, deadline: Instant) -> Answer {
    let mut timed_out = false;
    let code = loop {
        match child.next(connection, deadline)? {
            Event::Said(Said::Failed { code, message }, _) => {
                return Err(Failure::new(code, message));
            }
            Event::Said(..) => {}
            Event::Ended(status) => {
                use std::os::unix::process::ExitStatusExt;
                break status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            }
            Event::Closed => {
                return Err(Failure::refused("the caller went away; the tool is ended"));
            }
            Event::Late => {
                timed_out = true;
                break 128 + libc::SIGKILL;
            }
        }
    };
    let leaf = child.leaf();
    let exit = Exit {
        code,
        oom: leaf.oom_kills() > 0,
        timed_out,
        memory_peak_bytes: leaf.memory_peak_bytes(),
    };
    Ok((Reply::Exited(exit), Vec::new()))
}

fn plan(context: &Context, tool: &Tool) -> Result<(Program, Duration), Failure> {
    match *tool {
        Tool::ReceivePack { app, stateless, advertise, version, pack_mib_max } => {
            if !(1..=PACK_MIB_MAX).contains(&pack_mib_max) {
                return Err(Failure::refused(format!(
                    "a pack of {pack_mib_max} MiB: 1 to {PACK_MIB_MAX} are possible"
                )));
            }
            let bytes = u64::from(pack_mib_max) << 20;
            let mut argv = git(&receive_settings(bytes));
            argv.push("receive-pack".into());
            // A pack's index and the objects it completes come on top of the pack.
            let limits = Limits { file_bytes: bytes + (64 << 20), cpu_s: 900, files: 1024 };
            let call = GitCall { app, stateless, advertise, version, writable: true };
            Ok((call.program(context, argv, limits)?, RECEIVE_TIME_MAX))
        }
        Tool::UploadPack { app, stateless, advertise, version } => {
            let mut argv = git(&["uploadpack.allowFilter=false".into(), "pack.threads=2".into()]);
            argv.push("upload-pack".into());
            // Its view has no place to write to.
            let limits = Limits { file_bytes: u64::MAX, cpu_s: 900, files: 1024 };
            let call = GitCall { app, stateless, advertise, version, writable: false };
            Ok((call.program(context, argv, limits)?, UPLOAD_TIME_MAX))
        }
        Tool::Compile { engine } => Ok((compile(context, engine), COMPILE_TIME_MAX)),
    }
}

/// One call of git on one repository.
struct GitCall {
    app: AppId,
    stateless: bool,
    advertise: bool,
    version: u8,
    writable: bool,
}

impl GitCall {
    fn program(
        &self,
        context: &Context,
        mut argv: Vec<String>,
        limits: Limits,
    ) -> Result<Program, Failure> {
        if self.version > 2 {
            return Err(Failure::refused(format!("git has no protocol {}", self.version)));
        }
        let repository = context.repository(self.app);
        if !repository.is_dir() {
            return Err(Failure::not_found(format!("{} has no repository", self.app)));
        }
        if self.stateless {
            argv.push("--stateless-rpc".into());
        }
        if self.advertise {
            argv.push("--http-backend-info-refs".into());
        }
        argv.push(format!("/{REPOSITORY}"));
        let mut env = environment();
        if self.version > 0 {
            env.push(("GIT_PROTOCOL".into(), format!("version={}", self.version)));
        }
        let shown =
            vec![Shown { from: repository, name: REPOSITORY.into(), writable: self.writable }];
        Ok(program(context, argv, env, shown, limits))
    }
}

/// `git` with what both of its sides need.
fn git(settings: &[String]) -> Vec<String> {
    let always = [
        // The repository belongs to the control id; git would take that for an attack.
        format!("safe.directory=/{REPOSITORY}"),
        "core.hooksPath=/berth/hooks".into(),
        "core.sharedRepository=group".into(),
        "core.fsmonitor=false".into(),
        "transfer.fsckObjects=true".into(),
        "transfer.hideRefs=refs/berth".into(),
        "protocol.allow=never".into(),
    ];
    let mut argv = vec!["git".to_owned()];
    for setting in always.iter().chain(settings) {
        argv.push("-c".into());
        argv.push(setting.clone());
    }
    argv
}

fn receive_settings(pack_bytes_max: u64) -> Vec<String> {
    vec![
        format!("receive.maxInputSize={pack_bytes_max}"),
        // Objects come as one pack, never as thousands of files.
        "receive.unpackLimit=1".into(),
        "receive.fsckObjects=true".into(),
        "receive.denyDeletes=false".into(),
        "receive.denyNonFastForwards=false".into(),
        "receive.advertisePushOptions=false".into(),
        "receive.procReceiveRefs=refs/heads".into(),
        "receive.procReceiveRefs=refs/tags".into(),
        "pack.threads=2".into(),
        "core.bigFileThreshold=16m".into(),
    ]
}

/// The Wasm compiler: a component on standard input, machine code on standard output.
fn compile(context: &Context, engine: Engine) -> Program {
    let engine = match engine {
        Engine::Extensions => "extensions",
        Engine::Apps => "apps",
    };
    let argv = vec!["/berth/berthd".into(), "compile".into(), engine.into()];
    let limits = Limits { file_bytes: 1 << 30, cpu_s: 600, files: 256 };
    program(context, argv, environment(), Vec::new(), limits)
}

fn environment() -> Vec<(String, String)> {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("LC_ALL", "C.UTF-8"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn program(
    context: &Context,
    argv: Vec<String>,
    env: Vec<(String, String)>,
    shown: Vec<Shown>,
    limits: Limits,
) -> Program {
    Program {
        view: view(context),
        bin: context.bin.clone(),
        shown,
        argv,
        env,
        id: context.ids.tool,
        limits,
    }
}

/// An empty folder; each child mounts over it in a namespace of its own.
pub(crate) fn view(context: &Context) -> PathBuf {
    context.run.join("view")
}

/// Makes the folder that views are built on.
pub(crate) fn prepare(context: &Context) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let view = view(context);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&view)
        .because(|| format!("making {}", view.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_git_comes_by_argument_and_has_a_value() {
        let argv = git(&receive_settings(1 << 20));
        assert_eq!(argv[0], "git");
        for pair in argv[1..].chunks(2) {
            assert_eq!(pair[0], "-c");
            assert!(
                pair[1]
                    .split_once('=')
                    .is_some_and(|(key, value)| key.contains('.') && !value.is_empty())
            );
        }
        assert!(argv.contains(&"receive.maxInputSize=1048576".to_owned()));
    }
}
