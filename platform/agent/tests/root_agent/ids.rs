//! User ids: whose they are, and who may ask.

use std::process::{Command, Stdio};

use berth_container::{FailureCode, Ids, PROTOCOL, Reply, Request, Role};

use crate::platform::{Platform, app, code, shell};

async fn ids(platform: &Platform) -> Ids {
    match platform.call(&Request::Hello { protocol: PROTOCOL }, &[]).await.unwrap() {
        Reply::Hello { ids, .. } => ids,
        reply => panic!("{reply:?}"),
    }
}

#[tokio::test]
async fn user_ids_of_an_app_whose_container_runs_are_not_given_to_another() {
    let platform = Platform::new();
    let build = platform.start(platform.request(app(1), Role::Build), &shell("")).await.unwrap();
    for role in [Role::Instance, Role::Run, Role::Build] {
        let mut other = platform.request(app(2), role);
        other.block = 1;
        let outcome = platform.start(other, &shell("true")).await;
        let Err(berth_container::AgentError::Failed { code, message }) = outcome.map(|_| ()) else {
            panic!("{role:?} was started")
        };
        assert_eq!(code, FailureCode::Conflict, "{message}");
        assert!(message.contains(&build.instance.to_string()), "{message}");
    }
    platform.stop(build.instance, 0).await.unwrap();
    let mut other = platform.request(app(2), Role::Run);
    other.block = 1;
    let started = platform.start(other, &shell("true")).await.unwrap();
    assert_eq!(platform.end_of(started.instance).await.code, 0);
}

#[tokio::test]
async fn user_ids_that_any_process_of_the_machine_has_are_not_given_to_an_app() {
    let platform = Platform::new();
    // The blocks follow each other: the platform's, the stacks', then two for each app.
    let base = ids(&platform).await.control - 1;
    let id = (base + (2 + 2 * 3) * 65_536 + 1000).to_string();
    let mut left = Command::new("setpriv")
        .args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "sh",
            "-c",
            "echo on; exec sleep 60",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = std::io::BufReader::new(left.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    for role in [Role::Run, Role::Build] {
        let outcome = platform.start(platform.request(app(3), role), &shell("true")).await;
        assert_eq!(code(outcome.map(|_| ())), FailureCode::Conflict, "{role:?}");
    }
    // Others are not held up, and neither is this app when the process is gone.
    assert_eq!(platform.script(|_| {}, "true").await.0.code, 0);
    left.kill().unwrap();
    left.wait().unwrap();
    let started = platform.start(platform.request(app(3), Role::Run), &shell("true")).await;
    assert_eq!(platform.end_of(started.unwrap().instance).await.code, 0);
}

#[tokio::test]
async fn the_control_id_may_speak_to_the_agent_and_reads_nothing_of_its() {
    let platform = Platform::new();
    let control = ids(&platform).await.control;
    let socket = platform.run().join("agent.sock");
    let started = platform.instance(app(1), "sleep 60").await;
    let private = [
        platform.data.join("trees"),
        platform.data.join("disks"),
        platform.data.join("logs"),
        platform.run().join("i").join(started.instance.to_string()),
    ];
    let (answer, opened) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            #[expect(unsafe_code, reason = "changes the user of this thread alone")]
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, control, control, control) };
            assert_eq!(changed, 0);
            let opened: Vec<_> =
                private.iter().filter(|folder| std::fs::read_dir(folder).is_ok()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let agent = berth_container::Agent::at(socket);
            let hello = Request::Hello { protocol: PROTOCOL };
            (runtime.unwrap().block_on(agent.call(&hello, &[])), opened)
        });
        other.join().unwrap()
    });
    assert!(matches!(answer.unwrap().0, Reply::Hello { .. }));
    assert_eq!(opened, Vec::<&std::path::PathBuf>::new());
    platform.stop(started.instance, 0).await.unwrap();
}
