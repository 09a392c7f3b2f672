//! From start to end of a container.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use berth_container::{ContainerState, FailureCode, Reply, Request, Role, Terminal};

use crate::platform::{Platform, app, code, eventually, memory, shell};

pub(crate) const SERVER: &str = "echo hello > index.html; exec httpd -f -p 5000";

pub(crate) fn get(address: Ipv4Addr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&(address, 5000).into(), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub(crate) async fn answers(address: Ipv4Addr) {
    eventually("an answer", || get(address).is_ok_and(|text| text.contains("hello"))).await;
}

#[tokio::test]
async fn an_instance_answers_over_tcp_and_ends_when_it_is_asked() {
    let platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    answers(started.address.unwrap()).await;
    let status = platform.until(started.instance, |s| !s.listening.is_empty()).await;
    assert_eq!(status.listening[0].port(), 5000);
    assert!(status.memory_bytes > 0);
    let exit = platform.stop(started.instance, 2000).await.unwrap();
    assert_eq!(exit.code, 143);
    assert!(platform.status(started.instance).await.is_none());
}

#[tokio::test]
async fn a_run_tells_its_exit_code_and_output() {
    let platform = Platform::new();
    let (exit, text) = platform.script(|_| {}, "echo out; echo err >&2; id -u; exit 7").await;
    assert_eq!(exit.code, 7, "{text}");
    assert!(text.contains("out\n") && text.contains("err\n") && text.contains("1000\n"), "{text}");
}

#[tokio::test]
async fn a_run_reads_the_standard_input_that_came_with_it() {
    let platform = Platform::new();
    let mut start = platform.request(app(1), Role::Run);
    start.stdin = true;
    let instance = start.instance;
    let descriptors =
        [memory(&serde_json::to_vec(&shell("tr a-z A-Z")).unwrap()), memory(b"from outside\n")];
    platform.call(&Request::Start(start), &descriptors).await.unwrap();
    assert_eq!(platform.end_of(instance).await.code, 0);
    assert!(platform.log(instance).await.contains("FROM OUTSIDE"));
}

#[tokio::test]
async fn a_run_with_a_terminal_has_one_of_the_asked_size() {
    let platform = Platform::new();
    let mut start = platform.request(app(1), Role::Run);
    start.tty = Some(Terminal { rows: 33, columns: 77 });
    let script = "tty; stty size; read line; echo got:$line; exit 5";
    let mut started = platform.start(start, &shell(script)).await.unwrap();
    let mut terminal = std::fs::File::from(started.attached.remove(0));
    terminal.write_all(b"typed\n").unwrap();
    let mut text = String::new();
    let mut bytes = [0; 1024];
    // A terminal whose other end is closed reads as an error, not as an end.
    while let Ok(count) = terminal.read(&mut bytes) {
        text += &String::from_utf8_lossy(&bytes[..count]);
    }
    assert!(
        text.contains("/dev/") && text.contains("33 77") && text.contains("got:typed"),
        "{text}"
    );
    assert_eq!(platform.end_of(started.instance).await.code, 5);
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_after_the_grace() {
    let platform = Platform::new();
    let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let started = platform.instance(app(1), script).await;
    platform.logged(started.instance, "ready").await;
    let begun = Instant::now();
    let exit = platform.stop(started.instance, 400).await.unwrap();
    assert_eq!(exit.code, 137);
    assert!((Duration::from_millis(400)..Duration::from_secs(5)).contains(&begun.elapsed()));
}

#[tokio::test]
async fn an_instance_that_ends_is_started_again_with_a_fresh_root() {
    let platform = Platform::new();
    let script = "ls /workspace /tmp; echo left > /workspace/left; echo left > /tmp/left; exit 3";
    let started = platform.instance(app(1), script).await;
    let waiting = platform.until(started.instance, |s| s.state == ContainerState::Waiting).await;
    assert_eq!(waiting.last_exit.unwrap().code, 3);
    platform.until(started.instance, |s| s.attempt == 2).await;
    platform
        .until(started.instance, |s| s.attempt == 2 && s.state == ContainerState::Waiting)
        .await;
    let text = platform.log(started.instance).await;
    assert!(!text.contains("\nleft"), "{text}");
    assert!(text.contains("[exited with code 3]") && text.contains("[starting again in"), "{text}");
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn a_run_whose_time_is_over_is_ended() {
    let platform = Platform::new();
    let (exit, text) = platform.script(|start| start.time_ms_max = 300, "sleep 60").await;
    assert!(exit.timed_out && exit.code == 137, "{exit:?} {text}");
}

#[tokio::test]
async fn an_id_is_used_once_even_after_its_container_is_gone() {
    let platform = Platform::new();
    let request = platform.request(app(1), Role::Run);
    let started = platform.start(request.clone(), &shell("true")).await.unwrap();
    let again = platform.start(request.clone(), &shell("true")).await;
    assert_eq!(code(again.map(|_| ())), FailureCode::Conflict);
    platform.end_of(started.instance).await;
    platform.stop(started.instance, 0).await.unwrap();
    let again = platform.start(request, &shell("true")).await;
    assert_eq!(code(again.map(|_| ())), FailureCode::Conflict);
}

#[tokio::test]
async fn a_command_that_is_not_there_ends_with_127_and_says_so() {
    let platform = Platform::new();
    let mut payload = shell("");
    payload.argv = vec!["no-such-command".into()];
    let started = platform.start(platform.request(app(1), Role::Run), &payload).await.unwrap();
    assert_eq!(platform.end_of(started.instance).await.code, 127);
    assert!(platform.log(started.instance).await.contains("no-such-command"));
}

#[tokio::test]
async fn a_lot_of_output_is_kept_in_order_and_bounded() {
    let platform = Platform::new();
    const LINES: u64 = 150_000;
    let script =
        format!("awk 'BEGIN {{ for (i = 1; i <= {LINES}; i++) printf \"%0200d\\n\", i }}'");
    let started =
        platform.start(platform.request(app(1), Role::Run), &shell(&script)).await.unwrap();
    platform.end_of(started.instance).await;
    let logs = platform.data.join("logs").join(started.instance.to_string());
    let bytes: u64 =
        std::fs::read_dir(logs).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 32 << 20, "{bytes}");
    let text = platform.log(started.instance).await;
    let lines = text.strip_suffix("[exited with code 0]\n").unwrap();
    let kept: Vec<u64> = lines.lines().filter_map(|line| line.parse().ok()).collect();
    // The oldest are gone, and of the rest none is missing.
    assert!(kept[0] > 1 && kept.len() > 50_000, "{} lines from {}", kept.len(), kept[0]);
    assert!(kept.iter().copied().eq(kept[0]..=LINES), "{} lines from {}", kept.len(), kept[0]);
}

#[tokio::test]
async fn an_address_is_not_given_again_before_it_is_released() {
    let platform = Platform::new();
    let first = platform.instance(app(1), "sleep 60").await;
    platform.stop(first.instance, 0).await.unwrap();
    let second = platform.instance(app(1), "sleep 60").await;
    assert_ne!(first.address, second.address);
    let free = Request::AddressFree { instance: first.instance };
    assert_eq!(platform.call(&free, &[]).await.unwrap(), Reply::Done {});
    platform.stop(second.instance, 0).await.unwrap();
}
