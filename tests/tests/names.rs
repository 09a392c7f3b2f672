//! Names as apps look them up: the C library in a container, the router, and a real name server on
//! the host's loopback, where a host's own resolver often is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use acceptance::looker::stacks_are_there;
use acceptance::traces::processes;
use acceptance::{Looker, Platform, Scene, wait_for};

/// A name server on an address of the host's loopback.
struct NameServer(Child);

impl NameServer {
    fn start(at: &str, answer: &str) -> Self {
        let child = Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--no-daemon", "--conf-file=/dev/null", "--no-resolv"])
            .args(["--no-hosts", "--bind-interfaces", "--pid-file=", "--user=root"])
            .arg(format!("--listen-address={at}"))
            .arg(format!("--host-record=service.example,{answer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child);
        wait_for("dnsmasq", 20, || std::net::TcpStream::connect((at, 53)).ok());
        server
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The router of this platform.
fn router_of(platform: &Platform) -> Option<rustix::process::Pid> {
    let data = platform.data.display().to_string();
    let routers = processes(&["route --listeners-from-fd", &data]);
    rustix::process::Pid::from_raw(*routers.first()?)
}

fn kill(pid: rustix::process::Pid) {
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn apps_look_names_up_whatever_of_the_platform_is_killed() {
    stacks_are_there();
    let scene = Scene::enter();
    scene.put_etc("resolv.conf", "nameserver 127.0.0.53\noptions edns0 trust-ad\n");
    let server = NameServer::start("127.0.0.53", "192.0.2.71");
    let mut platform = Platform::start();
    let app = Looker::deploy(&scene, &platform);

    // The host's loopback is not the app's: it asks the router, by the address in its own file.
    let file = app.asks(&platform, "/resolv.conf");
    assert!(file.starts_with("nameserver 10.2") && !file.contains("127."), "{file}");
    assert_eq!(app.finds(&platform, "service.example"), "192.0.2.71");
    assert!(app.finds(&platform, "nowhere.invalid").starts_with("failed"));
    let local = app.finds(&platform, "anything.localhost");
    assert!(local.contains("127.0.0.1") && !local.contains("failed"), "{local}");
    // So do one-off commands, and commands in running instances.
    for arguments in [
        vec!["run", "--app", "looker", "getent", "hosts", "service.example"],
        vec!["exec", "--app", "looker", "web.1", "getent", "hosts", "service.example"],
    ] {
        let said = platform.must(&arguments);
        assert!(said.contains("192.0.2.71"), "{arguments:?}: {said}");
    }

    // The host's file changes: nobody is told, and it counts.
    let _other = NameServer::start("127.0.0.54", "192.0.2.72");
    scene.put_etc("resolv.conf", "nameserver 127.0.0.54\n");
    wait_for("the new server's answer", 20, || {
        (app.finds(&platform, "service.example") == "192.0.2.72").then_some(())
    });
    drop(server);

    // Without berthd and the agent.
    platform.kill();
    platform.kill_agent();
    assert_eq!(app.finds(&platform, "service.example"), "192.0.2.72");

    // A new agent has the old router's sockets: the next router is asked on the same ones.
    platform.serve().unwrap();
    let router = router_of(&platform).unwrap();
    kill(router);
    let begun = Instant::now();
    let next = || router_of(&platform).filter(|pid| *pid != router);
    wait_for("another router", 20, next);
    let found = wait_for("an answer", 20, || {
        platform.get("looker", "/name?host=service.example").ok().map(|(_, text)| text)
    });
    assert_eq!(found, "192.0.2.72", "after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// A program in Python that is there, waits for a line, and then goes on.
struct Waiting {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Waiting {
    fn start(platform: &Platform, command: &[&str], then: &str) -> Self {
        let program = format!("{QUERY}print('there', flush=True)\ninput()\n{then}");
        let command = [command, &["python3", "-c", &program]].concat();
        let mut command = platform.command(&platform.token, &command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut waiting = Self { child, lines };
        waiting.says("there");
        waiting
    }

    fn go(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    #[track_caller]
    fn says(&mut self, line: &str) {
        assert_eq!(self.lines.next().map(Result::unwrap).as_deref(), Some(line));
    }
}

/// Sends a query to the name service.
const QUERY: &str = "\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
at = (open('/etc/resolv.conf').read().split()[1], 53)
def ask(name):
    head = b'\\0\\1\\1\\0\\0\\1' + bytes(6)
    s.sendto(head + b''.join(bytes([len(p)]) + p for p in name.split(b'.')) + b'\\0\\0\\1\\0\\1', at)
";

#[test]
fn a_query_waits_for_a_busy_name_service_behind_all_that_another_instance_may_ask() {
    stacks_are_there();
    let scene = Scene::enter();
    scene.put_etc("resolv.conf", "nameserver 127.0.0.53\n");
    let _server = NameServer::start("127.0.0.53", "192.0.2.71");
    let platform = Platform::start();
    let _app = Looker::deploy(&scene, &platform);
    let run = ["run", "--app", "looker"];
    let exec = ["exec", "--app", "looker", "web.1"];
    let many = "for _ in range(450):\n    ask(b'slow.example')\nprint('asked')\n";
    let mut many = Waiting::start(&platform, &run, many);
    let one = "ask(b'service.example')\nprint('asked', flush=True)\ns.settimeout(10)\n\
               print(len(s.recv(512)) > 40)\n";
    let mut one = Waiting::start(&platform, &exec, one);
    let router = router_of(&platform).unwrap();
    // As one that gets no processor.
    rustix::process::kill_process(router, rustix::process::Signal::STOP).unwrap();
    for asking in [&mut many, &mut one] {
        asking.go();
        asking.says("asked");
    }
    rustix::process::kill_process(router, rustix::process::Signal::CONT).unwrap();
    one.says("True");
    for mut asking in [many, one] {
        assert!(asking.child.wait().unwrap().success());
    }
}

#[test]
fn an_app_that_floods_the_name_service_does_not_keep_others_from_it() {
    stacks_are_there();
    let scene = Scene::enter();
    scene.put_etc("resolv.conf", "nameserver 127.0.0.53\n");
    let _server = NameServer::start("127.0.0.53", "192.0.2.71");
    let platform = Platform::start();
    let app = Looker::deploy(&scene, &platform);
    let flood = "import socket\n\
                 s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                 at = (open('/etc/resolv.conf').read().split()[1], 53)\n\
                 q = b'\\x00\\x01\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x04slow\\x07example\\x00\\x00\\x01\\x00\\x01'\n\
                 while True:\n    s.sendto(q, at)\n";
    platform.must(&["run", "--app", "looker", "--detach", "python3", "-c", flood]);
    // While it goes on, each of the other's lookups is answered at once.
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(app.finds(&platform, "service.example"), "192.0.2.71");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}
