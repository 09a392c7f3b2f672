//! Which system calls a container may make, tried by making them.

use std::fmt::Write;

use crate::platform::Platform;
use crate::views::program;

const PERL: &str = "/usr/bin/perl";
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// What a call with these arguments answers in a container.
async fn errors(platform: &Platform, calls: &[(&str, i64, &str)]) -> Vec<(String, i32)> {
    let layer = program(platform, 21, PERL);
    let mut script = String::new();
    for (name, number, arguments) in calls {
        writeln!(
            script,
            "$! = 0; $r = syscall({number}{arguments}); print '{name} ', ($r < 0 ? $!+0 : 0), qq(\\n);"
        )
        .unwrap();
    }
    let script = format!("cat > /tmp/calls.pl << 'END'\n{script}END\nexec {PERL} /tmp/calls.pl");
    let (exit, text) = platform.script(|start| start.layers.push(layer), &script).await;
    assert_eq!(exit.code, 0, "{text}");
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let found: Vec<_> =
        lines.filter_map(|(name, error)| Some((name.to_owned(), error.parse().ok()?))).collect();
    assert_eq!(found.len(), calls.len(), "{text}");
    found
}

#[tokio::test]
#[cfg(target_arch = "x86_64")]
async fn known_dangerous_calls_answer_that_they_are_not_permitted() {
    let platform = Platform::new();
    let calls = [
        ("acct", 163, ", 0"),
        ("add_key", 248, ", 0, 0, 0, 0, 0"),
        ("bpf", 321, ", 0, 0, 0"),
        ("chroot", 161, ", 0"),
        ("clone_newuser", 56, ", 0x10000000, 0, 0, 0, 0"),
        ("clone_newnet", 56, ", 0x40000000, 0, 0, 0, 0"),
        ("finit_module", 313, ", 0, 0, 0"),
        ("fsopen", 430, ", 0, 0"),
        ("init_module", 175, ", 0, 0, 0"),
        ("kexec_load", 246, ", 0, 0, 0, 0"),
        ("keyctl", 250, ", 0, 0, 0, 0, 0"),
        ("mount", 165, ", 0, 0, 0, 0, 0"),
        ("mount_setattr", 442, ", 0, 0, 0, 0, 0"),
        ("move_mount", 429, ", 0, 0, 0, 0, 0"),
        ("open_by_handle_at", 304, ", 0, 0, 0"),
        ("open_tree", 428, ", 0, 0, 0"),
        ("perf_event_open", 298, ", 0, 0, 0, 0, 0"),
        ("pidfd_getfd", 438, ", 0, 0, 0"),
        ("pivot_root", 155, ", 0, 0"),
        ("process_vm_readv", 310, ", 0, 0, 0, 0, 0, 0"),
        ("ptrace", 101, ", 0, 0, 0, 0"),
        ("quotactl", 179, ", 0, 0, 0, 0"),
        ("reboot", 169, ", 0, 0, 0, 0"),
        ("setns", 308, ", 0, 0"),
        ("settimeofday", 164, ", 0, 0"),
        ("swapon", 167, ", 0, 0"),
        ("syslog", 103, ", 3, 0, 0"),
        ("umount2", 166, ", 0, 0"),
        ("unshare", 272, ", 0"),
        ("userfaultfd", 323, ", 0"),
    ];
    for (name, error) in errors(&platform, &calls).await {
        assert_eq!(error, EPERM, "{name}");
    }
}

#[tokio::test]
#[cfg(target_arch = "x86_64")]
async fn calls_that_are_on_no_list_do_not_exist() {
    let platform = Platform::new();
    let calls = [
        // Its flags cannot be looked at, and any other error would break threads.
        ("clone3", 435, ", 0, 0"),
        ("io_uring_setup", 425, ", 1, 0"),
        ("of_a_later_kernel", 999, ""),
        ("personality_no_randomization", 135, ", 0x0040000"),
        ("packet_socket", 41, ", 17, 3, 0"),
        ("kernel_crypto_socket", 41, ", 38, 5, 0"),
        ("virtual_machine_socket", 41, ", 40, 1, 0"),
    ];
    for (name, error) in errors(&platform, &calls).await {
        assert_eq!(error, ENOSYS, "{name}");
    }
}

#[tokio::test]
#[cfg(target_arch = "x86_64")]
async fn calls_that_every_program_makes_work() {
    let platform = Platform::new();
    let calls = [
        ("getpid", 39, ""),
        ("fork_by_clone", 56, ", 17, 0, 0, 0, 0) || syscall(60, 0"),
        ("tcp_socket", 41, ", 2, 1, 0"),
        ("tcp6_socket", 41, ", 10, 1, 0"),
        ("unix_socket", 41, ", 1, 1, 0"),
        ("netlink_socket", 41, ", 16, 3, 0"),
        ("memfd_create", 319, ", $0, 0"),
        ("personality_linux", 135, ", 0xffffffff"),
    ];
    for (name, error) in errors(&platform, &calls).await {
        assert_eq!(error, 0, "{name}");
    }
}
