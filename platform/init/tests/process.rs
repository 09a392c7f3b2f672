//! The program in front of real children, as process 1 would be but for its number, and as git's
//! hook. `root_process_one.rs` runs it in a process namespace.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

fn init() -> Command {
    Command::new(env!("CARGO_BIN_EXE_berth-init"))
}

fn run(words: &[&str]) -> Output {
    init().arg("--").args(words).stdin(Stdio::null()).output().unwrap()
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn it_ends_as_its_child_ends() {
    assert_eq!(run(&["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    assert_eq!(run(&["sh", "-c", "echo out; echo err >&2"]).stdout, b"out\n");
}

#[test]
fn a_program_that_cannot_be_run_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    std::fs::write(&file, "echo no first line").unwrap();
    let file = file.to_str().unwrap();
    for (word, code, said) in [
        ("no-such-program", 127, "cannot run 'no-such-program': it is not in PATH ("),
        ("/no/such/file", 127, "cannot run '/no/such/file': there is no such file"),
        (file, 126, "it is not executable: set its executable bit"),
    ] {
        let output = run(&[word]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{word}: {text}");
        assert!(text.contains(said), "{word}: {text}");
    }
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = run(&[file]);
    assert_eq!(output.status.code(), Some(126));
    assert!(String::from_utf8(output.stderr).unwrap().contains("a script with a '#!' line"));
}

#[test]
fn the_child_starts_with_default_signals_and_in_a_session_of_its_own() {
    let script = "grep -E 'Sig(Blk|Ign)' /proc/self/status; ps -o sid= -p $$ | tr -d ' '; echo $$";
    let output = init().args(["--", "sh", "-c", script]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "SigBlk:\t0000000000000000");
    assert_eq!(lines[1], "SigIgn:\t0000000000000000");
    assert_eq!(lines[2], lines[3], "session id and pid");
}

#[test]
fn signals_reach_every_process_of_the_group() {
    // The shell does not pass SIGTERM on; its background child must see it all the same.
    let script = "sh -c 'trap \"echo inner; exit 0\" TERM; echo ready; while :; do sleep 0.02; done' & \
                  trap : TERM; wait; wait; exit 5";
    let mut child = init().args(["--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    signal(&child, rustix::process::Signal::TERM);
    assert_eq!(lines.next().unwrap().unwrap(), "inner");
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn idle_ends_with_sigterm_and_with_nothing_else() {
    let mut child = init().arg("--idle").spawn().unwrap();
    let waits_in = format!("/proc/{}/syscall", child.id());
    let sigtimedwait = format!("{} ", libc::SYS_rt_sigtimedwait);
    wait_until(|| std::fs::read_to_string(&waits_in).is_ok_and(|t| t.starts_with(&sigtimedwait)));
    signal(&child, rustix::process::Signal::HUP);
    signal(&child, rustix::process::Signal::USR1);
    assert!(child.try_wait().unwrap().is_none());
    signal(&child, rustix::process::Signal::TERM);
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "it did not happen within 10 s");
        std::thread::yield_now();
    }
}

/// Starts the hook with a socket as descriptor 3, by a shell that moves it there.
fn hook(name: &str) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&theirs.as_fd());
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(name);
    std::fs::copy(env!("CARGO_BIN_EXE_berth-init"), &program).unwrap();
    let child = Command::new("bash")
        .arg("-c")
        .arg(format!("exec 3<&{number} {number}<&-; exec \"$0\""))
        .arg(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(theirs);
    // The shell must have started the program before its folder goes.
    let exe = format!("/proc/{}/exe", child.id());
    wait_until(|| std::fs::read_link(&exe).is_ok_and(|to| to == program));
    (child, ours)
}

fn frame(channel: u8, bytes: &[u8]) -> Vec<u8> {
    [&[channel][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

#[test]
fn the_hook_relays_both_ways_and_ends_with_the_platforms_code() {
    let (mut child, mut platform) = hook("proc-receive");
    child.stdin.take().unwrap().write_all(b"0000from git").unwrap();
    let mut seen = Vec::new();
    platform.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, b"0000from git");
    platform.write_all(&frame(1, b"ok refs/heads/main")).unwrap();
    platform.write_all(&frame(2, &[b'x'; 100_000])).unwrap();
    platform.write_all(&frame(3, &[4])).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"ok refs/heads/main");
    assert_eq!(output.stderr, [b'x'; 100_000]);
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn the_hook_fails_when_the_platform_goes_away_or_speaks_nonsense() {
    for nonsense in [&b""[..], b"\x01\x00\x00\x00\x05hi", &[9, 0, 0, 0, 0], &[1, 255, 0, 0, 0]] {
        let (child, mut platform) = hook("proc-receive");
        platform.write_all(nonsense).unwrap();
        drop(platform);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("the connection to the platform ended"), "{said}");
    }
}

#[test]
fn the_hook_without_its_socket_says_so() {
    let output = Command::new("bash")
        .args(["-c", "exec 3</dev/null; exec \"$0\" hook proc-receive"])
        .arg(env!("CARGO_BIN_EXE_berth-init"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("descriptor 3 is not its socket"));
}
