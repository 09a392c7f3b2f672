//! What programs find out about their own limits, and programs of the host for other tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use berth_model::Digest;

use crate::platform::{Platform, app, is_v2};

/// A layer with a program of this machine and the libraries that it needs.
pub(crate) fn program(platform: &Platform, number: u8, path: &str) -> Digest {
    let (digest, tree) = platform.add_layer(number);
    let output = Command::new("ldd").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([path]) {
        let to = tree.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, &to).unwrap();
        assert!(Path::new(file).is_absolute());
    }
    digest
}

#[tokio::test]
async fn a_container_sees_its_own_limits_and_cannot_change_them() {
    let platform = Platform::new();
    let (memory, cpu, pids) = if is_v2() {
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/pids.max")
    } else {
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
            "/sys/fs/cgroup/pids/pids.max",
        )
    };
    let script = format!(
        "exec 2>&1; cat {memory} {cpu} {pids} /proc/self/cgroup; echo 99 > {pids}; mkdir {}/mine; \
         for f in $(find /sys/fs/cgroup); do [ -w $f ] && echo \"writable $f\"; done; echo end",
        Path::new(memory).parent().unwrap().display()
    );
    let change = |start: &mut berth_container::Start| {
        (start.limits.cpu_milli, start.limits.pids) = (500, 77);
    };
    let (_, text) = platform.script(change, &script).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], (64_u32 << 20).to_string(), "{text}");
    assert_eq!(lines[1], if is_v2() { "50000 100000" } else { "50000" }, "{text}");
    assert_eq!(lines[2], "77", "{text}");
    assert!(!text.contains(&platform.id), "nothing above its own group: {text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(!text.contains("writable") && text.contains("end"), "{text}");
}

#[tokio::test]
async fn node_finds_the_memory_that_it_may_use() {
    let output =
        Command::new("sh").args(["-c", "readlink -f $(command -v node)"]).output().unwrap();
    let path = String::from_utf8(output.stdout).unwrap();
    let platform = Platform::new();
    let layer = program(&platform, 20, path.trim());
    let change = |start: &mut berth_container::Start| {
        start.layers.push(layer);
        start.limits.memory_mib = 300;
    };
    let script = format!("{} -p 'process.constrainedMemory()'", path.trim());
    let (exit, text) = platform.script(change, &script).await;
    assert_eq!(exit.code, 0, "{text}");
    assert_eq!(text.lines().next(), Some("314572800"), "{text}");
}

#[tokio::test]
async fn swap_counts_as_memory_and_a_victim_takes_its_container_along() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "sleep 60").await;
    let group = platform.memory_group(&started.instance.to_string()).unwrap();
    let read = |name: &str| fs::read_to_string(group.join(name)).unwrap().trim().to_owned();
    if is_v2() {
        assert_eq!(
            (read("memory.swap.max").as_str(), read("memory.oom.group").as_str()),
            ("0", "1")
        );
    } else {
        assert_eq!(read("memory.memsw.limit_in_bytes"), (64_u32 << 20).to_string());
    }
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn an_app_whose_child_was_ended_for_its_memory_is_started_again_whole() {
    let platform = Platform::new();
    let script = "(head -c 300m /dev/zero | tail > /dev/null); \
                  echo half alive; sleep 60";
    let started = platform.instance(app(1), script).await;
    let ended = platform.until(started.instance, |s| s.last_exit.is_some()).await;
    let exit = ended.last_exit.unwrap();
    assert!(exit.oom && exit.memory_peak_bytes > 32 << 20, "{exit:?}");
    let text = platform.logged(started.instance, "starting again").await;
    // Cgroup v2 ends all of it at once; on v1 the agent does a moment later, and nothing goes on.
    assert!(!(is_v2() && text.contains("half alive")), "{text}");
    assert!(text.contains("the limit is 64 MiB, the peak was "), "{text}");
    platform.stop(started.instance, 0).await.unwrap();
}
