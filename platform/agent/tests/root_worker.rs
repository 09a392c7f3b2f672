//! The platform's long-lived programs by the agent. A script stands where berthd would be. Needs
//! root, busybox-static and python3.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "root_agent/platform.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod platform;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use berth_container::{FailureCode, Ids, Program, Reply, Request};
use platform::{Platform, code, eventually};

/// Answers each TCP connection with its pid, arguments and status; ends at once when it hears
/// `end`, after its last answer when it is asked to.
const PROGRAM: &str = r#"#!/usr/bin/python3
import os, signal, socket, sys
listener = socket.socket(fileno=4)
draining = False
def asked(*_):
    global draining
    draining = True
    listener.settimeout(0.01)
signal.signal(signal.SIGTERM, asked)
listener.settimeout(0.05)
while not draining:
    try:
        stream, _ = listener.accept()
    except TimeoutError:
        continue
    stream.settimeout(5)
    word = stream.recv(10)
    if word == b"end": os._exit(9)
    status = open("/proc/self/status").read()
    cgroup = open("/proc/self/cgroup").read()
    extra = " ".join(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 4 and os.path.exists(f"/proc/self/fd/{fd}"))
    text = f"pid={os.getpid()} sid={os.getsid(0)}\nargs={sys.argv[1:]}\nenv={sorted(os.environ)}\nextra={extra}\n{status}{cgroup}"
    stream.sendall(text.encode())
    stream.close()
print("drained", file=sys.stderr)
"#;

fn plant(platform: &Platform, build: &str) {
    let bin = platform.data.join("bin").join(build);
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("berthd"), PROGRAM).unwrap();
    fs::set_permissions(bin.join("berthd"), fs::Permissions::from_mode(0o755)).unwrap();
}

struct Listeners {
    control: OwnedFd,
    tcp: OwnedFd,
    address: SocketAddr,
}

impl Listeners {
    fn new(folder: &Path) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let control = UnixListener::bind(folder.join("control.sock")).unwrap().into();
        Self { control, tcp: tcp.into(), address }
    }

    fn pair(&self) -> [OwnedFd; 2] {
        [self.control.try_clone().unwrap(), self.tcp.try_clone().unwrap()]
    }
}

async fn worker(
    platform: &Platform,
    program: Program,
    listeners: &[OwnedFd],
) -> (u32, u32, Vec<OwnedFd>) {
    let request = Request::Worker { program };
    match platform.agent.call(&request, listeners).await.unwrap() {
        (Reply::Worker { pid, restarts }, back) => (pid, restarts, back),
        reply => panic!("{reply:?}"),
    }
}

async fn ids(platform: &Platform) -> Ids {
    let request = Request::Hello { protocol: berth_container::PROTOCOL };
    match platform.call(&request, &[]).await.unwrap() {
        Reply::Hello { ids, .. } => ids,
        reply => panic!("{reply:?}"),
    }
}

/// Connects and asks; nobody may be refused.
fn ask(address: SocketAddr, word: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(*platform::PATIENCE)).unwrap();
    stream.write_all(word.as_bytes()).unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

fn pid(text: &str) -> u32 {
    text.strip_prefix("pid=")
        .unwrap_or_else(|| panic!("{text:?}"))
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_worker_runs_confined_on_its_listeners_and_nothing_else() {
    let platform = Platform::new();
    plant(&platform, "test");
    let listeners = Listeners::new(&platform.data);
    let (number, restarts, back) = worker(&platform, Program::Wasm, &listeners.pair()).await;
    assert_eq!((restarts, back.len()), (0, 2));
    let text = ask(listeners.address, "hello");
    assert_eq!(pid(&text), number);
    assert!(text.contains(&format!("sid={number}")), "{text}");
    let data = platform.data.display();
    assert!(
        text.contains(&format!("args=['wasm', '--listeners-from-fd', '3', '--data', '{data}']")),
        "{text}"
    );
    let extra = text.lines().find_map(|line| line.strip_prefix("extra=")).unwrap();
    assert_eq!(extra.split(' ').count(), 1, "more than this connection: {text}");
    let wasm = ids(&platform).await.wasm;
    for line in [
        format!("Uid:\t{wasm}\t{wasm}\t{wasm}\t{wasm}"),
        format!("Gid:\t{wasm}\t{wasm}\t{wasm}\t{wasm}"),
        "Groups:\t \n".into(),
        "NoNewPrivs:\t1".into(),
        "Seccomp:\t2".into(),
        "CapPrm:\t0000000000000000".into(),
        "CapBnd:\t0000000000000000".into(),
        "CapAmb:\t0000000000000000".into(),
        format!("/berth/{}/worker-wasm-", platform.id),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    let leaf = platform.memory_group("worker-wasm").unwrap();
    let file = if platform::is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    let limit = fs::read_to_string(leaf.join(file)).unwrap();
    assert_eq!(limit.trim(), (1_u64 << 30).to_string());
}

#[tokio::test]
async fn a_worker_that_ends_is_started_again_on_the_same_sockets() {
    let platform = Platform::new();
    plant(&platform, "test");
    let listeners = Listeners::new(&platform.data);
    let (first, ..) = worker(&platform, Program::Route, &listeners.pair()).await;
    assert_eq!(ask(listeners.address, "end"), "");
    // It waits in the socket's queue until the next one is there.
    let second = pid(&ask(listeners.address, "hello"));
    assert_ne!(first, second);
    let (number, restarts, _) = worker(&platform, Program::Route, &[]).await;
    assert_eq!((number, restarts), (second, 1));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(second as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_ne!(pid(&ask(listeners.address, "hello")), second);
    assert_eq!(worker(&platform, Program::Route, &[]).await.1, 2);
}

#[tokio::test]
async fn asking_again_finds_the_same_worker_and_gives_its_listeners_back() {
    let platform = Platform::new();
    plant(&platform, "test");
    let none = platform.call(&Request::Worker { program: Program::Route }, &[]).await;
    assert_eq!(code(none), FailureCode::NotFound);
    let listeners = Listeners::new(&platform.data);
    let (first, ..) = worker(&platform, Program::Route, &listeners.pair()).await;
    assert_eq!(worker(&platform, Program::Route, &listeners.pair()).await.0, first);
    let (again, _, back) = worker(&platform, Program::Route, &[]).await;
    assert_eq!((again, back.len()), (first, 2));
    let given = TcpListener::from(back.into_iter().nth(1).unwrap());
    assert_eq!(given.local_addr().unwrap(), listeners.address);
}

#[tokio::test]
async fn another_agent_takes_a_running_worker_back_and_looks_after_it() {
    let mut platform = Platform::new();
    plant(&platform, "test");
    let listeners = Listeners::new(&platform.data);
    let (first, ..) = worker(&platform, Program::Route, &listeners.pair()).await;
    let address = listeners.address;
    drop(listeners);
    platform.kill_agent();
    assert_eq!(pid(&ask(address, "hello")), first, "it goes on alone");
    platform.begin();
    let (found, _, back) = worker(&platform, Program::Route, &[]).await;
    assert_eq!(found, first);
    drop(back);
    // Only the agent's duplicates keep the socket open between two processes.
    assert_eq!(ask(address, "end"), "");
    assert_ne!(pid(&ask(address, "hello")), first);
}

#[tokio::test]
async fn a_router_of_an_agent_without_name_sockets_gets_them_when_it_is_started_again() {
    let mut platform = Platform::new();
    plant(&platform, "test");
    let listeners = Listeners::new(&platform.data);
    worker(&platform, Program::Route, &listeners.pair()).await;
    let extra = |text: &str| {
        let extra = text.lines().find_map(|line| line.strip_prefix("extra=")).unwrap();
        extra.split(' ').count()
    };
    assert_eq!(extra(&ask(listeners.address, "hello")), 3, "two sockets and this connection");
    platform.kill_agent();
    // As an older agent wrote it down.
    let note = platform.run().join("worker-route.json");
    let text = fs::read_to_string(&note).unwrap();
    assert!(text.contains(r#","own":2"#), "{text}");
    fs::write(&note, text.replace(r#","own":2"#, "")).unwrap();
    platform.begin();
    assert_eq!(ask(listeners.address, "end"), "");
    assert_eq!(extra(&ask(listeners.address, "hello")), 3);
}

#[tokio::test]
async fn a_worker_that_ended_while_no_agent_ran_is_not_taken_for_a_running_one() {
    let mut platform = Platform::new();
    plant(&platform, "test");
    let listeners = Listeners::new(&platform.data);
    let (first, ..) = worker(&platform, Program::Route, &listeners.pair()).await;
    platform.kill_agent();
    let process = rustix::process::Pid::from_raw(first as i32).unwrap();
    platform::kill(process);
    eventually("it ends", || !platform::alive(process)).await;
    platform.begin();
    let none = platform.call(&Request::Worker { program: Program::Route }, &[]).await;
    assert_eq!(code(none), FailureCode::NotFound);
    let (second, ..) = worker(&platform, Program::Route, &listeners.pair()).await;
    assert_eq!(pid(&ask(listeners.address, "hello")), second);
}

#[tokio::test]
async fn other_listeners_replace_the_worker_which_drains_first() {
    let platform = Platform::new();
    plant(&platform, "test");
    let old = Listeners::new(&platform.data);
    let (first, ..) = worker(&platform, Program::Route, &old.pair()).await;
    // It must have begun before it can be asked to drain.
    assert_eq!(pid(&ask(old.address, "hello")), first);
    fs::remove_file(platform.data.join("control.sock")).unwrap();
    let new = Listeners::new(&platform.data);
    let (second, ..) = worker(&platform, Program::Route, &new.pair()).await;
    assert_ne!(first, second);
    assert_eq!(pid(&ask(new.address, "hello")), second);
    let log = platform.data.join("worker-route.log");
    eventually("the old one drains", || {
        fs::read_to_string(&log).is_ok_and(|t| t.contains("drained"))
    })
    .await;
    let process = rustix::process::Pid::from_raw(first as i32).unwrap();
    eventually("and is gone", || !platform::alive(process)).await;
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_agent_of_another_build_replaces_the_worker_without_refusing_anyone() {
    let mut platform = Platform::new();
    plant(&platform, "test");
    let listeners = Listeners::new(&platform.data);
    let (first, ..) = worker(&platform, Program::Route, &listeners.pair()).await;
    assert_eq!(pid(&ask(listeners.address, "hello")), first);
    assert_eq!(platform.call(&Request::Retire, &[]).await.unwrap(), Reply::Done {});
    platform.process.take().unwrap().wait().unwrap();
    // The next build lies in a folder of its own.
    let (old, new) = (platform.data.join("bin/test"), platform.data.join("bin/next"));
    fs::rename(&old, &new).unwrap();
    let mut child = std::process::Command::new(new.join("berth-agent"))
        .args(["serve", "--data"])
        .arg(&platform.data)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut line).unwrap();
    platform.process = Some(child);
    let address = listeners.address;
    let asking = std::thread::spawn(move || {
        (0..100).map(|_| pid(&ask(address, "hello"))).collect::<Vec<_>>()
    });
    let (second, ..) = worker(&platform, Program::Route, &[]).await;
    assert_ne!(first, second);
    let answered = asking.join().unwrap();
    assert!(answered.iter().all(|p| [first, second].contains(p)), "{answered:?}");
    assert_eq!(pid(&ask(address, "hello")), second);
    fs::rename(&new, &old).unwrap();
}

#[tokio::test]
async fn down_stops_both_and_what_cannot_start_is_told() {
    let mut platform = Platform::new();
    let listeners = Listeners::new(&platform.data);
    let request = Request::Worker { program: Program::Route };
    let missing = platform.call(&request, &listeners.pair()).await;
    assert_eq!(code(missing), FailureCode::Machine, "there is no berthd");
    let file: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let wrong = platform.call(&request, &[file, listeners.tcp.try_clone().unwrap()]).await;
    assert_eq!(code(wrong), FailureCode::Refused);
    plant(&platform, "test");
    let (first, ..) = worker(&platform, Program::Route, &listeners.pair()).await;
    platform.down().await;
    assert!(!platform::alive(rustix::process::Pid::from_raw(first as i32).unwrap()));
    assert_eq!(platform.groups(), Vec::<PathBuf>::new());
}
