//! One-off commands on a real agent.

use std::time::Duration;

use berth_container::{Exit, Terminal};
use berth_deploy::{Attached, Command, DeployError, Streams};
use berth_model::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::host::{self, Host};

async fn host() -> (Host, AppId) {
    let host = Host::start().await;
    let app = host.records.app("hello");
    let release = host.release(app, "one", &[("web", "exec httpd -f -p $PORT -h /workspace")]);
    assert_eq!(host.deploy(app, release).await.state, DeploymentState::Done);
    (host, app)
}

fn command(line: &str) -> Command {
    Command {
        argv: ["sh", "-c", line].map(str::to_owned).to_vec(),
        env: vec![("TERM".to_owned(), "xterm".to_owned())],
        tty: None,
        time_ms_max: 20_000,
    }
}

/// Writes the input, reads everything, waits for the end.
async fn talk(attached: Attached, input: &str) -> (Result<Exit, DeployError>, String, String) {
    let (streams, end) = attached.split();
    let Streams::Pipes { mut stdin, mut stdout, mut stderr } = streams else {
        panic!("a terminal")
    };
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let (mut output, mut errors) = (String::new(), String::new());
    let (out, err, exit) =
        tokio::join!(stdout.read_to_string(&mut output), stderr.read_to_string(&mut errors), end);
    out.unwrap();
    err.unwrap();
    (exit, output, errors)
}

#[tokio::test(flavor = "multi_thread")]
async fn run_passes_input_output_errors_environment_and_exit_code() {
    let (host, app) = host().await;
    let line = "cat; echo $GREETING $BERTH_PROCESS $TERM; id -u; echo oops >&2; exit 7";
    let attached = host.reconciler.run(app, command(line)).await.unwrap();
    let (exit, output, errors) = talk(attached, "from the client\n").await;
    assert_eq!(exit.unwrap().code, 7);
    assert_eq!(output, "from the client\nhello run.1 xterm\n1000\n");
    assert_eq!(errors, "oops\n");
    host.until_only(app, 1).await;
    let state = host.records.lock();
    let run = state.instances.values().find(|row| row.role == InstanceRole::Run).unwrap();
    assert_eq!((run.state, run.exit_code), (InstanceState::Stopped, Some(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_with_a_terminal_has_its_size_and_can_be_resized() {
    let (host, app) = host().await;
    let tty = Some(Terminal { rows: 30, columns: 100 });
    let line = "stty size; read line; stty size; exit 5";
    let attached = host.reconciler.run(app, Command { tty, ..command(line) }).await.unwrap();
    let (streams, end) = attached.split();
    let Streams::Terminal(mut master) = streams else { panic!("pipes") };
    let mut seen = String::new();
    let mut bytes = [0; 256];
    while !seen.contains("30 100") {
        let count = master.read(&mut bytes).await.unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    master.resize(Terminal { rows: 40, columns: 120 }).unwrap();
    master.write_all(b"go\n").await.unwrap();
    let mut rest = String::new();
    master.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("40 120"), "{rest}");
    assert_eq!(end.await.unwrap().code, 5);
    host.until_only(app, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_time_and_with_its_client() {
    let (host, app) = host().await;
    let short = Command { time_ms_max: 300, ..command("exec sleep 1000") };
    let attached = host.reconciler.run(app, short).await.unwrap();
    let (exit, ..) = talk(attached, "").await;
    assert!(exit.unwrap().timed_out);
    host.until_only(app, 1).await;

    let attached = host.reconciler.run(app, command("exec sleep 1000")).await.unwrap();
    assert_eq!(host.containers().await.len(), 2);
    drop(attached);
    host.until_only(app, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_a_platform_that_was_lost_is_ended_and_a_detached_one_goes_on() {
    let (mut host, app) = host().await;
    let attached = host.reconciler.run(app, command("exec sleep 1000")).await.unwrap();
    let detached = host.reconciler.run_detached(app, command("sleep 2; exit 6")).await.unwrap();
    host.restart().await;
    host.records
        .until("the attached one ended", |s| s.instances[&attached.instance].state.is_terminal())
        .await;
    host.records
        .until("the detached one ended", |s| s.instances[&detached.id].state.is_terminal())
        .await;
    let row = host.records.lock().instances[&detached.id].clone();
    assert_eq!((row.state, row.exit_code), (InstanceState::Failed, Some(6)));
    host.until_only(app, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_runs_inside_the_instance_and_leaves_it_alone() {
    let (host, app) = host().await;
    let write = command("echo changed > /workspace/index.html; exit 3");
    let attached = host.reconciler.exec(app, Some("web.1"), write).await.unwrap();
    let (exit, ..) = talk(attached, "").await;
    assert_eq!(exit.unwrap().code, 3);
    let address = {
        let state = host.records.lock();
        let target = state.router[&app].first().unwrap();
        state.instances[target].address.clone().unwrap()
    };
    assert_eq!(host::get(&address).await.unwrap(), "changed\n");
    let none = host.reconciler.exec(app, Some("worker.1"), command("true")).await.err().unwrap();
    assert_eq!(none.to_string(), "no instance worker.1 of the app is running");
    host.until_only(app, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_and_too_many_commands_are_refused_with_their_reason() {
    let (host, app) = host().await;
    let missing = Command { argv: vec!["no-such-program".into()], ..command("") };
    let attached = host.reconciler.run(app, missing).await.unwrap();
    let (exit, _, errors) = talk(attached, "").await;
    assert_eq!(exit.unwrap().code, 127, "{errors}");
    let empty = host.reconciler.run(app, Command { argv: vec![], ..command("") }).await;
    assert!(matches!(empty, Err(DeployError::EmptyCommand)));
    tokio::time::timeout(Duration::from_secs(20), host.until_only(app, 1)).await.unwrap();
}
