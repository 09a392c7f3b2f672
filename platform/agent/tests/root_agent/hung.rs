//! What lives and does not answer.

use std::fs;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::life::{SERVER, answers};
use crate::platform::{Platform, alive, app, eventually, kill, run_process};

#[tokio::test]
async fn a_shell_that_waits_for_its_program_ends_at_once_when_it_is_asked() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "echo on; sleep 60; true").await;
    platform.logged(started.instance, "on").await;
    let begun = Instant::now();
    let exit = platform.stop(started.instance, 30_000).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(exit.code, 143);
}

#[tokio::test]
async fn an_app_that_is_stopped_is_killed_after_its_grace() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "echo on; kill -STOP $$; echo never").await;
    platform.logged(started.instance, "on").await;
    let begun = Instant::now();
    let exit = platform.stop(started.instance, 300).await.unwrap();
    assert_eq!(exit.code, 137);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_agent_is_not_held_up_by_a_run_process_that_hangs_and_ends_it() {
    let mut platform = Platform::new();
    let hung = platform.instance(app(1), "sleep 60").await;
    let other = platform.instance(app(2), SERVER).await;
    answers(other.address.unwrap()).await;
    let run = run_process(&platform, hung.instance);
    platform.kill_agent();
    rustix::process::kill_process(run, rustix::process::Signal::STOP).unwrap();
    platform.begin();
    assert_eq!(platform.end_of(hung.instance).await.code, 137);
    assert!(!alive(run));
    let exit = platform.stop(hung.instance, 0).await.unwrap();
    assert_eq!(exit.code, 137);
    answers(other.address.unwrap()).await;
    platform.stop(other.instance, 0).await.unwrap();
}

#[tokio::test]
async fn what_only_says_that_it_is_a_run_process_is_not_taken_for_one() {
    let mut platform = Platform::new();
    let started = platform.instance(app(1), "sleep 60").await;
    let run = run_process(&platform, started.instance);
    platform.kill_agent();
    kill(run);
    eventually("the run process ends", || !alive(run)).await;
    // This process has its lock and its socket, and another's name.
    let folder = platform.run().join("i").join(started.instance.to_string());
    let lock = fs::File::open(folder.join("lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    fs::remove_file(folder.join("sock")).unwrap();
    let kind = SocketType::SEQPACKET;
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(folder.join("sock")).unwrap()).unwrap();
    listen(&socket, 8).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let hello = format!(
        r#"{{"tell":"hello","pid":{},"starttime":1,"boot_id":"{}","protocol":1}}"#,
        std::process::id(),
        boot.trim()
    );
    let impostor = std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok(caller) = rustix::net::accept(&socket) {
            if berth_container::client::receive(&caller).is_ok_and(|(bytes, _)| bytes == b"end") {
                break;
            }
            let _ = berth_container::client::send(&caller, hello.as_bytes(), &[]);
            held.push(caller);
        }
    });
    // Its name goes when the agent clears away.
    fs::hard_link(folder.join("sock"), platform.run().join("impostor")).unwrap();
    platform.begin();
    let log = fs::read_to_string(platform.data.join("agent.log")).unwrap();
    assert!(log.contains("is not the run process that it says it is"), "{log}");
    assert_eq!(platform.end_of(started.instance).await.code, 137);
    let end = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let at = SocketAddrUnix::new(platform.run().join("impostor")).unwrap();
    rustix::net::connect(&end, &at).unwrap();
    berth_container::client::send(&end, b"end", &[]).unwrap();
    impostor.join().unwrap();
}

#[tokio::test]
async fn a_run_process_has_one_thread_a_session_and_a_group_of_its_own() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "sleep 60").await;
    let run = run_process(&platform, started.instance).as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{run}/status")).unwrap();
    assert!(status.contains("Threads:\t1\n"), "{status}");
    let stat = fs::read_to_string(format!("/proc/{run}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let agent = platform.process.as_ref().unwrap().id().to_string();
    assert_ne!(fields[1], agent, "nobody's child: {stat}");
    assert_ne!(fields[3], agent, "a session of its own: {stat}");
    let group = fs::read_to_string(format!("/proc/{run}/cgroup")).unwrap();
    assert!(group.contains(&format!("/berth/{}/runs", platform.id)), "{group}");
    platform.stop(started.instance, 0).await.unwrap();
}
