//! The program as process 1 of a process namespace.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn unshared(words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(env!("CARGO_BIN_EXE_berth-init"))
        .args(words)
        .stdin(Stdio::null());
    command
}

#[test]
fn orphans_are_reaped_and_the_exit_code_is_the_childs() {
    // Each subshell leaves an orphan that ends at once; no zombie may stay with process 1.
    let script = "for i in 1 2 3 4 5; do (true & exec true) ; done; sleep 0.2; \
                  grep -l '^State:.Z' /proc/[0-9]*/status; exit 3";
    let output = unshared(&["--", "sh", "-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn what_the_child_leaves_behind_ends_with_it() {
    let mut child = unshared(&["--", "sh", "-c", "sleep 1000 & echo started"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    // The pipe closes only when `sleep`, which holds it too, is gone.
    assert!(lines.next().is_none());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_signal_from_outside_ends_a_child_that_does_not_catch_it() {
    let mut child = unshared(&["--", "sh", "-c", "echo $PPID; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "1");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let init: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let init = rustix::process::Pid::from_raw(init).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}
