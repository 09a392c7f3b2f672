//! What is left: nothing.

use std::fs;
use std::process::Command;

use berth_container::{Live, Reply, Request, Role};

use crate::life::{SERVER, answers};
use crate::platform::{Platform, app, eventually, memory, shell};

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn down_leaves_no_process_mount_namespace_rule_group_or_loop_device() {
    let mut platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    answers(started.address.unwrap()).await;
    platform.start(platform.request(app(2), Role::Build), &shell("")).await.unwrap();
    let index: u8 = started.address.unwrap().octets()[1] - 200;
    let id = platform.id.clone();
    assert!(fs::read_to_string("/proc/mounts").unwrap().contains(&id));
    assert!(!platform.groups().is_empty());
    platform.down().await;
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(&id));
    assert!(!output("nft", &["list", "tables"]).contains(&id));
    assert!(!std::path::Path::new(&format!("/sys/class/net/berth{index}")).exists());
    assert!(!std::path::Path::new("/run/berth").join(&id).exists());
    assert_eq!(platform.groups(), Vec::<std::path::PathBuf>::new());
    let data = platform.data.display().to_string();
    let processes = output("ps", &["-eo", "args"]);
    assert!(!processes.contains(&data) && !processes.contains(&id), "{processes}");
    eventually("loop devices are free", || !output("losetup", &["--all"]).contains(&data)).await;
    let disks: Vec<_> = fs::read_dir(platform.data.join("disks")).unwrap().flatten().collect();
    assert_eq!(disks.len(), 1, "the caches alone: {disks:?}");
    // Logs and layers are data: they stay.
    assert!(platform.data.join("logs").join(started.instance.to_string()).exists());
}

#[tokio::test]
async fn ten_starts_and_stops_leave_no_interface_or_mount() {
    let platform = Platform::new();
    // Other tests mount at the same time.
    let mounts = || {
        let all = fs::read_to_string("/proc/mounts").unwrap();
        let data = platform.data.display().to_string();
        all.lines().filter(|line| line.contains(&platform.id) || line.contains(&data)).count()
    };
    let before = mounts();
    for _ in 0..10 {
        let started = platform.instance(app(1), "sleep 60").await;
        platform.stop(started.instance, 0).await.unwrap();
    }
    assert_eq!(mounts(), before);
    let pin = platform.run().join("net");
    let net = format!("--net={}", pin.display());
    let links = output("nsenter", &[&net, "ip", "-br", "link"]);
    assert!(!links.lines().any(|line| line.starts_with("i0")), "{links}");
    assert_eq!(fs::read_dir(platform.run().join("i")).unwrap().count(), 0);
}

#[tokio::test]
async fn gc_removes_what_is_not_named_and_nothing_that_runs() {
    let platform = Platform::new();
    let running = platform.instance(app(1), "sleep 60").await;
    let build = platform.start(platform.request(app(2), Role::Build), &shell("")).await.unwrap();
    platform.stop(build.instance, 0).await.unwrap();
    let named = platform.start(platform.request(app(1), Role::Run), &shell("true")).await.unwrap();
    let other = platform.start(platform.request(app(1), Role::Run), &shell("true")).await.unwrap();
    platform.end_of(named.instance).await;
    platform.end_of(other.instance).await;
    let live = Live { layers: vec![], instances: vec![named.instance], apps: vec![] };
    let list = memory(&serde_json::to_vec(&live).unwrap());
    assert_eq!(platform.call(&Request::Gc, &[list]).await.unwrap(), Reply::Done {});
    let logs = |instance: berth_model::InstanceId| {
        platform.data.join("logs").join(instance.to_string()).exists()
    };
    assert!(logs(running.instance) && logs(named.instance) && !logs(other.instance));
    assert!(!platform.data.join("disks").join(format!("cache-{}", app(2))).exists());
    assert!(platform.status(other.instance).await.is_none());
    let (exit, _) = platform.exec(running.instance, "true").await;
    assert_eq!(exit.code, 0);
}

#[tokio::test]
async fn a_data_folder_that_vanished_is_collected_by_the_next_agent() {
    let mut gone = Platform::new();
    let started = gone.instance(app(1), "sleep 60").await;
    let run = crate::platform::run_process(&gone, started.instance);
    gone.kill_agent();
    fs::remove_dir_all(&gone.data).unwrap();
    let id = gone.id.clone();
    let next = Platform::new();
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(&id));
    assert!(!output("nft", &["list", "tables"]).contains(&id));
    assert!(!std::path::Path::new("/run/berth").join(&id).exists());
    eventually("the container ends", || !crate::platform::alive(run)).await;
    let other = next.instance(app(1), SERVER).await;
    answers(other.address.unwrap()).await;
}
