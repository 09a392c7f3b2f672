//! What a container cannot do.

use berth_container::Role;

use crate::platform::{Platform, app, shell};

#[tokio::test]
async fn the_app_has_no_capability_no_new_privileges_and_a_filter() {
    let platform = Platform::new();
    let (_, text) = platform.script(|_| {}, "cat /proc/self/status; cat /proc/1/status").await;
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "Uid:\t1000\t1000\t1000\t1000"] {
        assert_eq!(text.matches(line).count(), 2, "{line} {text}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(text.matches(&format!("{set}:\t0000000000000000")).count(), 2, "{text}");
    }
}

#[tokio::test]
async fn dangerous_calls_are_refused() {
    let platform = Platform::new();
    let script = "unshare -Ur true; echo unshare=$?; mount -t tmpfs none /tmp; echo mount=$?; \
                  mknod /tmp/disk b 7 0; echo mknod=$?; hostname other; echo hostname=$?; \
                  chroot / true; echo chroot=$?";
    let (_, text) = platform.script(|_| {}, script).await;
    for name in ["unshare", "mount", "mknod", "hostname", "chroot"] {
        assert!(text.contains(&format!("{name}=1")), "{name}: {text}");
    }
    assert!(text.matches("Operation not permitted").count() >= 4, "{text}");
}

#[tokio::test]
async fn files_and_devices_of_the_host_are_out_of_reach() {
    let platform = Platform::new();
    let secret = platform.data.join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let script = format!(
        "cat {0}; cat /proc/1/root{0}; ls /var/lib /root; ls /dev; head -c1 /dev/loop0; \
         echo 1 > /proc/sys/kernel/printk; echo b > /proc/sysrq-trigger; cat /proc/kcore | head -c1; \
         touch /sys/x; touch /.berth/init; echo done",
        secret.display()
    );
    let (_, text) = platform.script(|_| {}, &script).await;
    assert!(text.contains("done") && !text.contains("of the host"), "{text}");
    let devices = text.split('\n').any(|line| line.contains("loop") && !line.contains("No such"));
    assert!(!devices, "{text}");
}

#[tokio::test]
async fn a_fork_bomb_stays_inside() {
    let platform = Platform::new();
    let script = "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1; echo alive";
    let begun = std::time::Instant::now();
    let mut start = platform.request(app(1), Role::Run);
    start.limits.pids = 32;
    start.time_ms_max = 2000;
    let started = platform.start(start, &shell(script)).await.unwrap();
    // The agent and other containers go on while it rages.
    let (_, text) = platform.script(|_| {}, "echo other").await;
    assert!(text.contains("other"), "{text}");
    platform.end_of(started.instance).await;
    platform.stop(started.instance, 0).await.unwrap();
    assert!(begun.elapsed().as_secs() < 10);
}

#[tokio::test]
async fn a_memory_hog_is_ended_for_its_memory_and_it_is_said() {
    let platform = Platform::new();
    let script = "echo begin; head -c 500m /dev/zero | tail > /dev/null; sleep 10; echo half alive";
    let (exit, text) = platform.script(|_| {}, script).await;
    assert!(exit.oom, "{exit:?} {text}");
    assert!(exit.memory_peak_bytes > 32 << 20, "{exit:?}");
    assert!(text.contains("limit is 64 MiB") && !text.contains("half alive"), "{text}");
}

#[tokio::test]
async fn a_disk_hog_meets_its_bound() {
    let platform = Platform::new();
    let script = "dd if=/dev/zero of=/tmp/big bs=1M count=200; ls -l /tmp/big; \
                  dd if=/dev/zero of=/dev/shm/big bs=1M count=200; echo done";
    let (_, text) = platform
        .script(|start| (start.limits.disk_mib, start.limits.memory_mib) = (32, 256), script)
        .await;
    assert!(text.contains("No space left on device") && text.contains("done"), "{text}");
}

#[tokio::test]
async fn environment_is_in_no_file_and_no_argument_vector() {
    const SECRET: &[u8] = b"hunter2-in-the-environment";
    let platform = Platform::new();
    let started = platform.instance(app(1), "echo $SECRET | wc -c; sleep 60").await;
    platform.logged(started.instance, "27").await;
    let found = |folder: &std::path::Path| {
        let output = std::process::Command::new("grep")
            .args(["-rlF", "--devices=skip", std::str::from_utf8(SECRET).unwrap()])
            .arg(folder)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(found(&platform.data), "");
    assert_eq!(found(&platform.run()), "");
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let known = String::from_utf8_lossy(&arguments).contains("grep");
        let has = arguments.windows(SECRET.len()).any(|window| window == SECRET);
        assert!(known || !has, "{}", process.path().display());
    }
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn output_can_be_opened_by_name() {
    let platform = Platform::new();
    let script = "echo by name > /dev/stdout; echo also > /dev/stderr; cat /etc/hosts; hostname";
    let (_, text) = platform.script(|_| {}, script).await;
    assert!(text.contains("by name\n") && text.contains("also\n"), "{text}");
    assert!(text.contains("localhost") && text.contains("ins-"), "{text}");
}
