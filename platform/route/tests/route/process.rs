//! The router as a process of its own: killed, ended by a signal, started again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use berth_model::RouteTable;
use berth_route::{Config, RouterClient};
use rustix::process::{Pid, Signal};

use crate::support::{App, Raw, listeners, route, soon, until};

const FOLDER: &str = "BERTH_ROUTE_TEST_FOLDER";

/// The child's part: the control listener is its standard input, the HTTP listener its standard
/// error. Without the variable it is a test like any other, of nothing.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let control = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let http = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
    berth_route::run(Config::new(folder, "/nonexistent", "child"), control, http, None).unwrap();
}

struct Process(Child);

impl Process {
    fn start(folder: &Path, control: &OwnedFd, http: &OwnedFd) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::child", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdin(Stdio::from(control.try_clone().unwrap()))
            .stdout(Stdio::null())
            .stderr(Stdio::from(http.try_clone().unwrap()))
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until(|| {
            status = self.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_killed_router_serves_its_last_table_when_it_is_started_again() {
    let app = App::saying("mine").await;
    let folder = tempfile::tempdir().unwrap();
    let (control, http, address, path) = listeners(&folder).await;
    let route_folder = folder.path().join("route");
    let mut process = Process::start(&route_folder, &control, &http);
    let client = soon(RouterClient::connect(&path)).await.unwrap();
    assert_eq!(client.hello().generation, 0);
    let table = RouteTable { generation: 9, routes: vec![route(&[app.target()])] };
    assert!(soon(client.publish(&table)).await.unwrap());
    assert_eq!(Raw::connect(address).await.get("/").await.text(), "mine");
    for _ in 0..3 {
        process.signal(Signal::KILL);
        process.ended().await;
        soon(client.closed()).await;
        // Whoever comes meanwhile waits in the listener's backlog.
        let mut waiting = Raw::connect(address).await;
        waiting.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
        process = Process::start(&route_folder, &control, &http);
        assert_eq!(waiting.reply().await.text(), "mine");
    }
    let client = soon(RouterClient::connect(&path)).await.unwrap();
    assert_eq!(client.hello().generation, 9);
}

#[tokio::test]
async fn sigterm_ends_the_router_with_success_once_its_connections_are_gone() {
    let app = App::saying("mine").await;
    let folder = tempfile::tempdir().unwrap();
    let (control, http, address, path) = listeners(&folder).await;
    let mut process = Process::start(&folder.path().join("route"), &control, &http);
    let client = soon(RouterClient::connect(&path)).await.unwrap();
    let table = RouteTable { generation: 1, routes: vec![route(&[app.target()])] };
    soon(client.publish(&table)).await.unwrap();
    let mut raw = Raw::connect(address).await;
    assert_eq!(raw.get("/").await.text(), "mine");
    drop(raw);
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    let log = std::fs::read_to_string(folder.path().join("route/access.log")).unwrap();
    assert_eq!(log.lines().count(), 1, "written before the end");
}
