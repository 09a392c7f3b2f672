//! Commands in a running container.

use std::io::{Read, Write};

use berth_container::{FailureCode, Reply, Request, Terminal};

use crate::platform::{Platform, app, code, eventually, memory, shell};

#[tokio::test]
async fn a_command_passes_on_its_code_output_and_signal() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "sleep 60").await;
    let (exit, text) = platform.exec(started.instance, "echo out; echo err >&2; exit 9").await;
    assert_eq!((exit.code, text.as_str()), (9, "out\nerr\n"));
    let (exit, _) = platform.exec(started.instance, "kill -KILL $$").await;
    assert_eq!(exit.code, 137);
    let (exit, text) = platform.exec(started.instance, "exec no-such-command").await;
    assert_eq!(exit.code, 127, "{text}");
}

#[tokio::test]
async fn a_command_is_as_confined_as_the_app_and_sees_its_files() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "echo mine > /tmp/mine; sleep 60").await;
    let script = "cat /tmp/mine /proc/self/status; ls -l /proc/self/fd; ps; mount -t tmpfs x /tmp";
    platform.logged(started.instance, "").await;
    let (_, text) = platform.exec(started.instance, script).await;
    assert!(text.contains("mine\n"), "{text}");
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapBnd:\t0000000000000000", "Uid:\t1000"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains("/.berth/init"), "sees process 1: {text}");
    assert!(!text.contains(" 5 -> ") && text.contains("mount: permission denied"), "{text}");
}

#[tokio::test]
async fn a_command_with_a_terminal_talks_through_it() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "sleep 60").await;
    let request = Request::Exec {
        instance: started.instance,
        tty: Some(Terminal { rows: 12, columns: 34 }),
        time_ms_max: 20_000,
    };
    let script = "tty; stty size; read word; echo got:$word; exit 4";
    let payload = memory(&serde_json::to_vec(&shell(script)).unwrap());
    let mut session = platform.agent.session(&request, &[payload]).await.unwrap();
    let (reply, mut attached) = session.reply().await.unwrap();
    assert_eq!(reply, Reply::Attached {});
    let mut terminal = std::fs::File::from(attached.remove(0));
    terminal.write_all(b"typed\n").unwrap();
    let mut text = String::new();
    let mut bytes = [0; 512];
    while let Ok(count) = terminal.read(&mut bytes) {
        text += &String::from_utf8_lossy(&bytes[..count]);
    }
    assert!(
        text.contains("/dev/pts/") && text.contains("12 34") && text.contains("got:typed"),
        "{text}"
    );
    let Reply::Exited(exit) = session.reply().await.unwrap().0 else { panic!("no exit") };
    assert_eq!(exit.code, 4);
}

#[tokio::test]
async fn a_command_whose_caller_goes_away_is_ended_with_all_that_it_started() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "sleep 60").await;
    let request = Request::Exec { instance: started.instance, tty: None, time_ms_max: 60_000 };
    let output = memory(b"");
    let null = || std::fs::File::open("/dev/null").unwrap().into();
    let descriptors = [
        memory(&serde_json::to_vec(&shell("(setsid sleep 4321 &); echo on; sleep 4321")).unwrap()),
        null(),
        output.try_clone().unwrap(),
        null(),
    ];
    let session = platform.agent.session(&request, &descriptors).await.unwrap();
    let (_, before) = loop {
        let (exit, text) = platform.exec(started.instance, "ps | grep -c '[4]321'").await;
        if text.trim() != "0" && text.trim() != "1" {
            break (exit, text);
        }
    };
    assert!(before.trim().parse::<u32>().unwrap() >= 2, "{before}");
    drop(session);
    let gone = || {
        std::process::Command::new("pgrep")
            .args(["-f", "sleep 4321"])
            .output()
            .unwrap()
            .stdout
            .is_empty()
    };
    eventually("the command ends", gone).await;
}

#[tokio::test]
async fn a_command_over_its_time_is_ended() {
    let platform = Platform::new();
    let started = platform.instance(app(1), "sleep 60").await;
    let null = || -> std::os::fd::OwnedFd { std::fs::File::open("/dev/null").unwrap().into() };
    let payload = memory(&serde_json::to_vec(&shell("sleep 60")).unwrap());
    let request = Request::Exec { instance: started.instance, tty: None, time_ms_max: 200 };
    let reply = platform.call(&request, &[payload, null(), null(), null()]).await.unwrap();
    let Reply::Exited(exit) = reply else { panic!("{reply:?}") };
    assert!(exit.timed_out && exit.code == 137, "{exit:?}");
}

#[tokio::test]
async fn a_command_in_no_container_is_refused() {
    let platform = Platform::new();
    let null = || -> std::os::fd::OwnedFd { std::fs::File::open("/dev/null").unwrap().into() };
    let instance = crate::platform::instance_id();
    let request = Request::Exec { instance, tty: None, time_ms_max: 1000 };
    let outcome = platform.call(&request, &[null(), null(), null(), null()]).await;
    assert_eq!(code(outcome.map(|_| ())), FailureCode::NotFound);
}
