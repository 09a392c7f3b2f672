//! Volumes: what they hold outlives everything but a wish, and no two containers have one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use berth_container::{
    AgentError, FailureCode, Live, Reply, Request, Role, Start, VolumeMount, VolumeStatus,
};
use berth_model::{AppId, VolumeId};

use crate::platform::{Platform, Started, Surroundings, app, memory, shell};

fn volume(number: u8) -> VolumeId {
    VolumeId::new(1, [number; 10])
}

fn mount(number: u8, path: &str, fresh: bool) -> VolumeMount {
    VolumeMount { volume: volume(number), size_mib: 32, path: path.parse().unwrap(), fresh }
}

fn request(platform: &Platform, app: AppId, mounts: &[VolumeMount]) -> Start {
    Start { volumes: mounts.to_vec(), ..platform.request(app, Role::Instance) }
}

/// An instance that sleeps, with volumes.
async fn with(platform: &Platform, app: AppId, mounts: &[VolumeMount]) -> Started {
    let start = request(platform, app, mounts);
    platform.start(start, &shell("exec sleep 600")).await.unwrap()
}

async fn refused(platform: &Platform, start: Start) -> (FailureCode, String) {
    match platform.start(start, &shell("true")).await.map(|_| ()) {
        Err(AgentError::Failed { code, message }) => (code, message),
        outcome => panic!("{outcome:?}"),
    }
}

async fn remove(platform: &Platform, number: u8) -> Result<(), AgentError> {
    let request = Request::VolumeRemove { volume: volume(number) };
    platform.agent.call(&request, &[]).await.map(|_| ())
}

async fn list(platform: &Platform) -> Vec<VolumeStatus> {
    match platform.agent.call(&Request::VolumeList, &[]).await.unwrap() {
        (Reply::Volumes { volumes }, _) => volumes,
        reply => panic!("{reply:?}"),
    }
}

fn disk(platform: &Platform, number: u8) -> PathBuf {
    platform.data.join("disks").join(format!("volume-{}", volume(number)))
}

async fn said(platform: &Platform, started: &Started, script: &str) -> String {
    platform.exec(started.instance, script).await.1
}

#[tokio::test]
async fn a_volume_belongs_to_the_apps_user_and_outlives_instances_and_agents() {
    let mut platform = Platform::new();
    let paths = [mount(1, "/data", true), mount(2, "/var/lib/deep/er", true)];
    let first = with(&platform, app(1), &paths).await;
    let owners = said(&platform, &first, "stat -c '%u:%g %a' /data /var/lib/deep/er; ls -A /data");
    assert_eq!(owners.await, "1000:1000 755\n1000:1000 755\n");
    let write = "echo one > /data/row && echo two > /var/lib/deep/er/row && sync && echo done";
    assert_eq!(said(&platform, &first, write).await, "done\n");
    platform.kill_agent();
    platform.begin();
    // It runs on with its volume, and the new agent knows whose it is.
    assert_eq!(said(&platform, &first, "cat /data/row").await, "one\n");
    let taken = refused(&platform, request(&platform, app(1), &[mount(1, "/data", false)])).await;
    assert_eq!(taken.0, FailureCode::Limit, "{}", taken.1);
    platform.stop(first.instance, 0).await.unwrap();
    let kept = [mount(1, "/elsewhere", false), mount(2, "/data", false)];
    let second = with(&platform, app(1), &kept).await;
    assert_eq!(said(&platform, &second, "cat /elsewhere/row /data/row").await, "one\ntwo\n");
    platform.stop(second.instance, 0).await.unwrap();
    // What it holds is not bound to the block of user ids that wrote it.
    let other = with(&platform, app(2), &[mount(1, "/data", false)]).await;
    let text =
        said(&platform, &other, "stat -c %u /data/row; echo three > /data/row; cat /data/row");
    assert_eq!(text.await, "1000\nthree\n");
    platform.stop(other.instance, 0).await.unwrap();
}

#[tokio::test]
async fn a_volume_holds_no_more_than_its_size_and_costs_the_rest_of_the_app_nothing() {
    let platform = Platform::new();
    let started = with(&platform, app(1), &[mount(1, "/data", true)]).await;
    let fill =
        "dd if=/dev/zero of=/data/big bs=1M count=64 2>&1; echo ok > /tmp/beside; cat /tmp/beside";
    let text = said(&platform, &started, fill).await;
    assert!(text.contains("No space left on device") && text.ends_with("ok\n"), "{text}");
    let size = said(&platform, &started, "stat -c %s /data/big").await;
    let size: u64 = size.trim().parse().unwrap();
    assert!((16 << 20..32 << 20).contains(&size), "{size}");
    let status = list(&platform).await;
    assert_eq!(status.len(), 1);
    assert_eq!(status[0].instance, Some(started.instance));
    assert!((16 << 20..48 << 20).contains(&status[0].used_bytes), "{status:?}");
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn no_two_containers_have_one_volume() {
    let platform = Platform::new();
    let first = with(&platform, app(1), &[mount(1, "/data", true)]).await;
    for other in [app(1), app(2)] {
        let (code, message) =
            refused(&platform, request(&platform, other, &[mount(1, "/data", false)])).await;
        assert_eq!(code, FailureCode::Limit);
        assert!(message.contains(&format!("in use by {}", first.instance)), "{message}");
    }
    platform.stop(first.instance, 0).await.unwrap();
    let next = with(&platform, app(1), &[mount(1, "/data", false)]).await;
    platform.stop(next.instance, 0).await.unwrap();
}

#[tokio::test]
async fn a_killed_instance_leaves_what_it_wrote_down_to_the_next_one_at_once() {
    let platform = Platform::new();
    let mut fresh = true;
    for round in 0..8 {
        let started = with(&platform, app(1), &[mount(1, "/data", fresh)]).await;
        fresh = false;
        let count = said(&platform, &started, "cat /data/rows 2> /dev/null | wc -l").await;
        assert_eq!(count, format!("{round}\n"));
        let write = "echo row >> /data/rows && dd if=/dev/zero of=/data/x bs=64k count=8 conv=fsync 2> /dev/null; sync /data/rows; echo $?";
        assert_eq!(said(&platform, &started, write).await, "0\n");
        // The run process and its container, as a crash would end them.
        let pattern = format!(
            "run --dir {}",
            platform.run().join("i").join(started.instance.to_string()).display()
        );
        let found = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
        let pid = String::from_utf8(found.stdout).unwrap();
        let killed = Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
        assert!(killed.success(), "{pid:?}");
        platform.end_of(started.instance).await;
    }
    // The file system is whole, and only one ever had it.
    if disk(&platform, 1).is_file() {
        let started = with(&platform, app(1), &[mount(1, "/data", false)]).await;
        platform.stop(started.instance, 0).await.unwrap();
        let deadline = std::time::Instant::now() + *crate::platform::PATIENCE;
        let path = disk(&platform, 1);
        let held = || Command::new("losetup").arg("-j").arg(&path).output().unwrap().stdout;
        while !held().is_empty() {
            assert!(std::time::Instant::now() < deadline, "the disk is still mounted");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let check = Command::new("e2fsck").args(["-f", "-n"]).arg(&path).output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    }
}

#[tokio::test]
async fn a_disk_that_is_gone_is_a_failure_and_never_an_empty_folder() {
    let platform = Platform::new();
    let start = request(&platform, app(1), &[mount(1, "/data", false)]);
    let (code, message) = refused(&platform, start).await;
    assert_eq!(code, FailureCode::Machine);
    assert!(message.contains("it is not made anew"), "{message}");
    assert!(!disk(&platform, 1).exists());
}

#[tokio::test]
async fn a_disk_that_was_not_finished_is_made_anew() {
    let platform = Platform::new();
    fs::write(disk(&platform, 1).with_extension("new"), "half").unwrap();
    let started = with(&platform, app(1), &[mount(1, "/data", true)]).await;
    assert_eq!(said(&platform, &started, "echo row > /data/row; cat /data/row").await, "row\n");
    assert!(!disk(&platform, 1).with_extension("new").exists());
    platform.stop(started.instance, 0).await.unwrap();
    // What is there is kept, also when it should have been new.
    let again = with(&platform, app(1), &[mount(1, "/data", true)]).await;
    assert_eq!(said(&platform, &again, "cat /data/row").await, "row\n");
    platform.stop(again.instance, 0).await.unwrap();
}

#[tokio::test]
async fn a_volume_goes_only_when_it_is_named_and_nobody_has_it() {
    let platform = Platform::new();
    let started = with(&platform, app(1), &[mount(1, "/data", true)]).await;
    let error = remove(&platform, 1).await.unwrap_err();
    let in_use = matches!(&error, AgentError::Failed { code: FailureCode::Conflict, message }
        if message.contains("in use by"));
    assert!(in_use, "{error}");
    platform.stop(started.instance, 0).await.unwrap();
    let nothing = memory(&serde_json::to_vec(&Live::default()).unwrap());
    platform.agent.call(&Request::Gc, &[nothing]).await.unwrap();
    assert_eq!(list(&platform).await.len(), 1, "garbage");
    remove(&platform, 1).await.unwrap();
    assert!(list(&platform).await.is_empty());
    assert!(!disk(&platform, 1).exists());
    // One that is not there is fine.
    remove(&platform, 1).await.unwrap();
}

#[tokio::test]
async fn without_loop_devices_volumes_are_kept_and_bounded_too() {
    let platform = Platform::within(Surroundings::NoLoopDevices, |_| {});
    let started = with(&platform, app(1), &[mount(1, "/data", true)]).await;
    let write = "echo row > /data/row; stat -c %u /data /data/row";
    assert_eq!(said(&platform, &started, write).await, "1000\n1000\n");
    platform.stop(started.instance, 0).await.unwrap();
    let again = with(&platform, app(1), &[mount(1, "/data", false)]).await;
    assert_eq!(said(&platform, &again, "cat /data/row").await, "row\n");
    let status = list(&platform).await;
    assert!((1..1 << 20).contains(&status[0].used_bytes), "{status:?}");
    platform.exec(again.instance, "dd if=/dev/zero of=/data/big bs=1M count=64; sleep 20").await;
    platform.logged(again.instance, "ended for its volume").await;
    platform.stop(again.instance, 0).await.unwrap();
    remove(&platform, 1).await.unwrap();
    assert!(list(&platform).await.is_empty());
}
