//! What only a machine has that runs cgroup v2 alone and is nobody else's: run in a virtual
//! machine by `cargo xtask test-cgroup2`, on a disk that enforces project quotas.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::life::{SERVER, answers};
use crate::platform::{Platform, Surroundings, app, is_v2};

#[tokio::test]
async fn under_a_service_manager_everything_lies_beside_the_control_group() {
    assert!(is_v2(), "this machine has cgroup v1");
    let unit = Path::new("/sys/fs/cgroup/berth-test.service");
    let platform = Platform::within(Surroundings::Delegated, |_| {});
    let started = platform.instance(app(1), SERVER).await;
    answers(started.address.unwrap()).await;
    let leaf = unit.join("berth").join(&platform.id).join(started.instance.to_string());
    let processes = fs::read_to_string(leaf.join("cgroup.procs")).unwrap();
    assert!(processes.lines().count() >= 2, "init and the app: {processes}");
    assert_eq!(fs::read_to_string(leaf.join("memory.max")).unwrap().trim(), "67108864");
    platform.stop(started.instance, 0).await.unwrap();
    drop(platform);
    assert!(!leaf.exists());
    fs::remove_dir(unit.join("berth")).unwrap();
    fs::remove_dir(unit.join("control")).unwrap();
    fs::remove_dir(unit).unwrap();
}

#[tokio::test]
async fn without_loop_devices_project_quotas_bound_a_disk() {
    assert!(is_v2(), "this machine has cgroup v1");
    let platform = Platform::within(Surroundings::NoLoopDevices, |_| {});
    let log = fs::read_to_string(platform.data.join("agent.log")).unwrap();
    assert!(log.contains("folders with project quotas"), "{log}");
    let script = "dd if=/dev/zero of=/tmp/big bs=1M count=100; sync; du -sm /tmp; rm /tmp/big; \
                  echo again > /tmp/small && cat /tmp/small; sleep 3; echo lives";
    let (exit, text) = platform
        .script(|start| (start.limits.disk_mib, start.limits.memory_mib) = (32, 256), script)
        .await;
    assert_eq!(exit.code, 0, "{text}");
    assert!(text.contains("quota exceeded") || text.contains("No space left"), "{text}");
    let used = text.lines().find_map(|line| line.strip_suffix("/tmp")).unwrap();
    let used: u64 = used.trim().parse().unwrap();
    assert!((25..=32).contains(&used), "{text}");
    assert!(text.contains("again") && text.contains("lives"), "{text}");
    let left: Vec<_> = fs::read_dir(platform.data.join("disks")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_program_that_takes_core_dumps_gets_none_of_an_app() {
    assert!(is_v2(), "this machine has cgroup v1");
    const PATTERN: &str = "/proc/sys/kernel/core_pattern";
    let folder = tempfile::tempdir_in("/run").unwrap();
    let taker = folder.path().join("taker");
    fs::write(&taker, format!("#!/bin/sh\ncat > {}/core.$1\n", folder.path().display())).unwrap();
    fs::set_permissions(&taker, fs::Permissions::from_mode(0o755)).unwrap();
    let before = fs::read_to_string(PATTERN).unwrap();
    fs::write(PATTERN, format!("|{} %P", taker.display())).unwrap();
    // It works: one of the host's own is taken, although it may write no file.
    let script = "ulimit -c 0; kill -SEGV $$";
    let mut own = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
    let of_host = folder.path().join(format!("core.{}", own.id()));
    own.wait().unwrap();
    crate::platform::eventually("the host's is taken", || of_host.exists()).await;
    let platform = Platform::new();
    let (_, text) = platform.script(|_| {}, "sh -c 'kill -SEGV $$'; echo ended $?").await;
    fs::write(PATTERN, before.trim()).unwrap();
    assert!(text.contains("ended 139"), "{text}");
    let taken: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| *path != of_host && *path != taker)
        .collect();
    assert!(taken.is_empty(), "{taken:?}");
}
