//! What containers write, and where it ends: with loop devices, without, and on a full disk.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use berth_container::{FailureCode, Role};

use crate::platform::{Platform, Surroundings, app, eventually, shell};

/// A file system of its own for a data folder; gone with this.
pub(crate) struct SmallDisk {
    image: PathBuf,
    at: Option<PathBuf>,
}

impl SmallDisk {
    pub(crate) fn new(mib: u64) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("/var/lib/berth-test/disk-{}-{number}", std::process::id());
        fs::create_dir_all("/var/lib/berth-test").unwrap();
        fs::File::create(&name).unwrap().set_len(mib << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &name]);
        Self { image: name.into(), at: None }
    }

    pub(crate) fn mount(&mut self, at: &Path) {
        run("mount", &["-o", "loop", self.image.to_str().unwrap(), at.to_str().unwrap()]);
        self.at = Some(at.to_path_buf());
    }

    /// Fills it but for so many bytes; what was written, so that it can be removed.
    fn fill(&self, left: u64) -> PathBuf {
        let folder = self.at.as_ref().unwrap();
        let path = folder.join("filler");
        let file = fs::File::create(&path).unwrap();
        let free = rustix::fs::statvfs(folder).unwrap();
        let bytes = (free.f_bavail * free.f_frsize).saturating_sub(left.max(8 << 20));
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(at) = &self.at {
            let _ = Command::new("umount").arg("-l").arg(at).status();
            let _ = fs::remove_dir(at);
        }
        let _ = fs::remove_file(&self.image);
    }
}

fn run(program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).status().unwrap();
    assert!(status.success(), "{program} {words:?}");
}

fn on_disk(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.blocks() * 512)
}

#[tokio::test]
async fn space_that_an_app_frees_goes_back_to_the_machine() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "sleep 60").await;
    let disk = platform.data.join("disks").join(started.instance.to_string());
    let write = "dd if=/dev/zero of=/tmp/big bs=1M count=40 2> /dev/null && sync; echo $?";
    assert_eq!(platform.exec(started.instance, write).await.1, "0\n");
    assert!(on_disk(&disk) > 40 << 20);
    platform.exec(started.instance, "rm /tmp/big && sync").await;
    eventually("the file shrinks", || on_disk(&disk) < 20 << 20).await;
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn on_a_disk_that_is_almost_full_nothing_but_instances_is_started() {
    let mut disk = SmallDisk::new(400);
    let platform = Platform::within(Surroundings::Plain, |data| disk.mount(data));
    assert_eq!(platform.script(|_| {}, "true").await.0.code, 0);
    let filler = disk.fill(20 << 20);
    let outcome = platform.start(platform.request(app(1), Role::Run), &shell("true")).await;
    let Err(berth_container::AgentError::Failed { code, message }) = outcome.map(|_| ()) else {
        panic!("it was started")
    };
    assert_eq!(code, FailureCode::Limit);
    assert!(message.contains("MiB must stay free"), "{message}");
    // An app that must be started anew has some of that room.
    let app = platform.instance(app(2), "sleep 60").await;
    platform.stop(app.instance, 0).await.unwrap();
    fs::remove_file(filler).unwrap();
    assert_eq!(platform.script(|_| {}, "true").await.0.code, 0);
}

#[tokio::test]
async fn a_full_disk_costs_an_app_log_lines_and_no_time() {
    let mut disk = SmallDisk::new(400);
    let platform = Platform::within(Surroundings::Plain, |data| disk.mount(data));
    let script = "i=0; while :; do i=$((i+1)); printf '%0120d\\n' $i; echo $i > /dev/shm/n; usleep 500; done";
    let started = platform.instance(app(1), script).await;
    platform.logged(started.instance, "00001").await;
    let count = || async {
        let (_, text) = platform.exec(started.instance, "cat /dev/shm/n").await;
        text.trim().parse::<u64>().unwrap_or(0)
    };
    let filler = disk.fill(0);
    let mut rest = fs::File::create(disk.at.as_ref().unwrap().join("rest")).unwrap();
    while rest.write_all(&[0; 4096]).is_ok() {}
    // Thousands of lines later it still writes.
    let before = count().await;
    let deadline = Instant::now() + *crate::platform::PATIENCE;
    while count().await < before + 500 {
        assert!(Instant::now() < deadline, "the app is held up");
    }
    fs::remove_file(filler).unwrap();
    let text = platform.logged(started.instance, "lines were dropped: the disk was full").await;
    assert!(!text.is_empty());
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn without_loop_devices_a_disk_hog_is_ended_within_seconds_and_nothing_is_left() {
    let mut disk = SmallDisk::new(700);
    let platform = Platform::within(Surroundings::NoLoopDevices, |data| disk.mount(data));
    let log = fs::read_to_string(platform.data.join("agent.log")).unwrap();
    assert!(log.contains("folders that are looked at each second"), "{log}");
    // One that stays within is left alone and sees its files.
    let quiet = platform.instance(app(1), "head -c 10m /dev/zero > /tmp/some; sleep 60").await;
    for script in [
        "echo on; head -c 100m /dev/zero > /tmp/big; sleep 60; echo late",
        "echo on; mkdir /tmp/d; cd /tmp/d; i=0; while [ $i -lt 20000 ]; do : > $i; i=$((i+1)); done; sleep 60; echo late",
        "echo on; i=0; while [ $i -lt 400 ]; do mkdir d && cd d; i=$((i+1)); done; sleep 60; echo late",
        // A file without a name.
        "echo on; exec 3> /tmp/big; rm /tmp/big; head -c 100m /dev/zero >&3; sleep 60; echo late",
    ] {
        let begun = Instant::now();
        let mut start = platform.request(app(2), Role::Run);
        start.limits.disk_mib = 32;
        let started = platform.start(start, &shell(script)).await.unwrap();
        let exit = platform.end_of(started.instance).await;
        let text = platform.log(started.instance).await;
        assert_eq!(exit.code, 137, "{text}");
        assert!(text.contains("[ended for its disk: at most 32 MiB and 8192 files"), "{text}");
        assert!(!text.contains("late"), "{text}");
        assert!(begun.elapsed() < *crate::platform::PATIENCE, "{:?}", begun.elapsed());
        let folder = platform.data.join("disks").join(started.instance.to_string());
        assert!(!folder.exists());
        platform.stop(started.instance, 0).await.unwrap();
    }
    let (exit, text) = platform.exec(quiet.instance, "ls -l /tmp/some; touch /workspace/x").await;
    assert!(exit.code == 0 && text.contains("10485760"), "{text}");
    platform.stop(quiet.instance, 0).await.unwrap();
}

#[tokio::test]
async fn without_loop_devices_an_apps_caches_last_and_are_watched() {
    let mut disk = SmallDisk::new(700);
    let platform = Platform::within(Surroundings::NoLoopDevices, |data| disk.mount(data));
    let nothing = shell("");
    let build = || platform.start(platform.request(app(1), Role::Build), &nothing);
    let first = build().await.unwrap();
    let (_, text) = platform.exec(first.instance, "echo kept > /caches/c; ls -ld /caches").await;
    assert!(text.contains("1000"), "{text}");
    platform.stop(first.instance, 0).await.unwrap();
    let second = build().await.unwrap();
    let (_, text) = platform.exec(second.instance, "cat /caches/c").await;
    assert_eq!(text, "kept\n");
    // Deeper than anybody looks: as much as can be.
    let deep = "cd /caches; i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done";
    platform.exec(second.instance, deep).await;
    assert_eq!(platform.end_of(second.instance).await.code, 137);
    let text = platform.log(second.instance).await;
    assert!(text.contains("[ended for its caches: at most 4096 MiB"), "{text}");
    // The next build begins with empty ones, and so it goes on.
    let third = build().await.unwrap();
    assert_eq!(platform.exec(third.instance, "ls /caches").await.1, "");
    platform.stop(third.instance, 0).await.unwrap();
    let request = berth_container::Request::CacheDrop { app: app(1) };
    platform.call(&request, &[]).await.unwrap();
    assert!(!platform.data.join("disks").join(format!("cache-{}", app(1))).exists());
}
