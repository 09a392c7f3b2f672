//! The agent and run processes die; what follows.

use berth_container::ContainerState;

use crate::life::{SERVER, answers, get};
use crate::platform::{Platform, app, eventually, run_process};

#[tokio::test]
async fn containers_outlive_the_agent_and_the_next_one_finds_them() {
    let mut platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    let address = started.address.unwrap();
    answers(address).await;
    platform.kill_agent();
    assert!(get(address).unwrap().contains("hello"), "it answers while no agent runs");
    platform.begin();
    let status = platform.status(started.instance).await.unwrap();
    assert_eq!((status.state, status.address), (ContainerState::Running, Some(address)));
    let (exit, text) = platform.exec(started.instance, "cat /workspace/index.html").await;
    assert_eq!((exit.code, text.as_str()), (0, "hello\n"));
    assert_eq!(platform.stop(started.instance, 2000).await.unwrap().code, 143);
}

#[tokio::test]
async fn an_end_that_no_agent_saw_is_known_to_the_next_one() {
    let mut platform = Platform::new();
    let request = platform.request(app(1), berth_container::Role::Run);
    let script = "while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 6";
    let started = platform.start(request, &crate::platform::shell(script)).await.unwrap();
    let run = run_process(&platform, started.instance);
    platform.exec(started.instance, "(sleep 0.5; touch /tmp/go) > /dev/null 2>&1 &").await;
    // The command's end takes its children along; so ask the container's own shell.
    platform.exec(started.instance, "touch /tmp/go").await;
    platform.kill_agent();
    eventually("the run process ends", || !crate::platform::alive(run)).await;
    platform.begin();
    assert_eq!(platform.end_of(started.instance).await.code, 6);
    assert_eq!(platform.stop(started.instance, 0).await.unwrap().code, 6);
}

#[tokio::test]
async fn a_killed_run_process_takes_its_container_along_and_leaves_nothing() {
    let platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    answers(started.address.unwrap()).await;
    let run = run_process(&platform, started.instance);
    crate::platform::kill(run);
    let exit = platform.end_of(started.instance).await;
    assert_eq!(exit.code, 137);
    assert!(get(started.address.unwrap()).is_err());
    assert!(!platform.data.join("disks").join(started.instance.to_string()).exists());
    assert_eq!(platform.memory_group(&started.instance.to_string()), None);
    let text = platform.log(started.instance).await;
    assert!(text.contains("its run process was killed"), "{text}");
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn a_run_process_that_dies_while_no_agent_runs_is_cleared_away_by_the_next_one() {
    let mut platform = Platform::new();
    let started = platform.instance(app(1), "sleep 60").await;
    let run = run_process(&platform, started.instance);
    platform.kill_agent();
    crate::platform::kill(run);
    eventually("the run process ends", || !crate::platform::alive(run)).await;
    platform.begin();
    assert_eq!(platform.end_of(started.instance).await.code, 137);
    assert_eq!(platform.stop(started.instance, 0).await.unwrap().code, 137);
}

#[tokio::test]
async fn a_retired_agent_leaves_everything_to_the_next_one() {
    let mut platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    answers(started.address.unwrap()).await;
    let reply = platform.call(&berth_container::Request::Retire, &[]).await.unwrap();
    assert_eq!(reply, berth_container::Reply::Done {});
    platform.process.take().unwrap().wait().unwrap();
    platform.begin();
    answers(started.address.unwrap()).await;
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn one_data_folder_has_one_agent() {
    let platform = Platform::new();
    let output = std::process::Command::new(platform.data.join("bin/test/berth-agent"))
        .args(["serve", "--data"])
        .arg(&platform.data)
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("another agent"));
}
