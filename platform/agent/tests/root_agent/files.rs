//! The container's file system: layers, mounts, devices, what is hidden and what is read-only.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use berth_container::FailureCode;

use crate::platform::{Platform, app, shell};

#[tokio::test]
async fn as_many_layers_as_are_possible_are_one_root_and_one_more_is_refused_by_name() {
    let platform = Platform::new();
    let mut start = platform.request(app(1), berth_container::Role::Run);
    for number in 100..=226 {
        let (digest, tree) = platform.add_layer(number);
        fs::write(tree.join(format!("from-{number}")), "").unwrap();
        fs::write(tree.join("last"), number.to_string()).unwrap();
        start.layers.push(digest);
    }
    assert_eq!(start.layers.len(), 128);
    let mut more = start.clone();
    more.layers.push(platform.add_layer(227).0);
    let outcome = platform.start(more, &shell("true")).await;
    let Err(berth_container::AgentError::Failed { code, message }) = outcome.map(|_| ()) else {
        panic!("129 layers were taken")
    };
    assert_eq!(code, FailureCode::Refused);
    assert!(message.contains("129 layers; 1 to 128 are possible"), "{message}");
    let started = platform.start(start, &shell("ls -d /from-* | wc -l; cat /last")).await.unwrap();
    assert_eq!(platform.end_of(started.instance).await.code, 0);
    let text = platform.log(started.instance).await;
    assert!(text.starts_with("127\n226"), "the highest wins: {text}");
}

#[tokio::test]
async fn no_mount_brings_devices_or_set_user_id_and_the_systems_are_read_only() {
    let platform = Platform::new();
    let (_, text) = platform
        .script(|_| {}, "cat /proc/self/mountinfo; echo; find /dev ! -type d ! -type l")
        .await;
    let (mounts, devices) = text.split_once("\n\n").unwrap();
    let mut seen = 0;
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (at, options) = (fields[4], fields[5].split(',').collect::<Vec<_>>());
        seen += 1;
        // What hides a file or folder of the kernel is /dev/null, or empty and read-only itself.
        if line.contains(" - tmpfs tmpfs ro") || fields[3] == "/null" {
            continue;
        }
        if at.starts_with("/dev/") && !["/dev/pts", "/dev/shm", "/dev/mqueue"].contains(&at) {
            continue;
        }
        assert!(options.contains(&"nosuid"), "{line}");
        assert!(options.contains(&"nodev") || at.starts_with("/dev"), "{line}");
        let closed = ["/sys", "/.berth", "/etc/", "/proc/sys", "/proc/bus"];
        if closed.iter().any(|start| at.starts_with(start)) && at != "/sys/fs/cgroup" {
            assert!(options.contains(&"ro"), "{line}");
        }
    }
    assert!(seen > 15, "{mounts}");
    let known = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts/ptmx"];
    for device in devices.lines().filter(|line| line.starts_with("/dev/")) {
        assert!(known.contains(&&device[5..]), "{device}");
    }
}

#[tokio::test]
async fn a_device_or_set_user_id_program_in_a_layer_is_of_no_use() {
    let platform = Platform::new();
    // No layer that was unpacked has any; this one was put there by root.
    let (layer, tree) = platform.add_layer(30);
    let made = |words: &[&str]| {
        let status = Command::new("mknod").current_dir(&tree).args(words).status().unwrap();
        assert!(status.success());
    };
    made(&["-m", "666", "zero", "c", "1", "5"]);
    made(&["-m", "666", "disk", "b", "7", "0"]);
    fs::create_dir(tree.join("su")).unwrap();
    fs::copy("/bin/busybox", tree.join("su/busybox")).unwrap();
    chown(tree.join("su/busybox"), Some(0), Some(0)).unwrap();
    fs::set_permissions(tree.join("su/busybox"), fs::Permissions::from_mode(0o6755)).unwrap();
    let script = "head -c 1 /zero | wc -c; head -c 1 /disk | wc -c; ls -l /su/busybox; \
                  /su/busybox id -u; /su/busybox id -g; mknod /tmp/null c 1 3; echo end";
    let (_, text) = platform.script(|start| start.layers.push(layer), script).await;
    assert_eq!(text.matches("Permission denied").count(), 2, "{text}");
    assert!(text.contains("-rwsr-sr-x"), "{text}");
    assert!(text.contains("\n1000\n1000\n") && text.contains("end"), "{text}");
    assert!(text.contains("mknod: /tmp/null: Operation not permitted"), "{text}");
}

#[tokio::test]
async fn the_kernels_own_files_are_hidden_or_read_only() {
    let platform = Platform::new();
    let script = "for f in kcore keys timer_list sched_debug latency_stats; do \
                    [ -e /proc/$f ] && echo \"$f has $(head -c 100 /proc/$f 2> /dev/null | wc -c)\"; done; \
                  echo firmware $(ls /sys/firmware | wc -l); \
                  for f in sysrq-trigger sys/kernel/core_pattern sys/vm/drop_caches sys/kernel/hostname irq/default_smp_affinity; do \
                    echo x > /proc/$f && echo \"wrote $f\"; done; \
                  cat /proc/sys/kernel/hostname; ls -d /sys/kernel/security/* 2> /dev/null; echo end";
    let (_, text) = platform.script(|_| {}, script).await;
    for line in text.lines().filter(|line| line.contains(" has ")) {
        assert!(line.ends_with(" has 0"), "{text}");
    }
    assert!(text.contains(" has 0") && text.contains("firmware 0"), "{text}");
    assert!(!text.contains("wrote ") && text.contains("end"), "{text}");
}

#[tokio::test]
async fn a_crash_leaves_no_memory_behind() {
    let platform = Platform::new();
    let script =
        "ulimit -c; sh -c 'kill -SEGV $$'; echo $?; find / -xdev -name 'core*' -type f; echo end";
    let (_, text) = platform.script(|_| {}, script).await;
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("Segmentation")).collect();
    assert_eq!(lines[1..3], ["139", "end"], "{text}");
    let started = platform.instance(app(1), "sleep 60").await;
    let (_, text) = platform.exec(started.instance, "grep core /proc/self/limits").await;
    assert!(text.contains(" 1                    1 "), "of a command too: {text}");
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn no_ignored_or_blocked_signal_reaches_the_app() {
    let platform = Platform::new();
    let script = "grep -E 'Sig(Blk|Ign)' /proc/self/status; ulimit -n; sleep 60";
    let started = platform.instance(app(1), script).await;
    let text = platform.logged(started.instance, "SigIgn").await;
    // A shell itself ignores SIGQUIT, and so does what it becomes; what it starts does not.
    let (_, command) =
        platform.exec(started.instance, "grep -E 'Sig(Blk|Ign)' /proc/self/status; true").await;
    for text in [&text, &command] {
        assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
        assert!(text.contains("SigIgn:\t0000000000000000"), "{text}");
    }
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn open_files_are_limited_and_never_beyond_what_the_agent_may_have() {
    let platform = Platform::new();
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let most = own.unwrap_or(65_536).min(65_536).to_string();
    let (_, text) = platform.script(|_| {}, "ulimit -n; ulimit -H -n").await;
    assert_eq!(text.lines().take(2).collect::<Vec<_>>(), [&most, &most], "{text}");
}
