//! Deployments on a real agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_container::ContainerState;
use berth_model::rollout::Timeouts;
use berth_model::*;

use crate::host::{Host, get, timeouts};
use crate::records;

const SERVE: &str = "exec httpd -f -p $PORT -h /workspace";

fn target(state: &records::State, app: AppId) -> Option<TargetAddress> {
    let instance = state.router.get(&app)?.first()?;
    state.instances[instance].address.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_deployed_replaced_scaled_restarted_and_stopped_without_a_failed_request() {
    let host = Host::start().await;
    let app = host.records.app("hello");
    let first = host.release(app, "one", &[("web", SERVE)]);
    let deployment = host.deploy(app, first).await;
    assert_eq!(deployment.state, DeploymentState::Done, "{:?}", deployment.error);

    // A client without retries asks whatever the router's table names at that moment; the router
    // knows of requests on their way.
    let stop = Arc::new(AtomicBool::new(false));
    let (records, stopping) = (host.records.clone(), Arc::clone(&stop));
    let reconciler = host.reconciler.clone();
    let client = tokio::spawn(async move {
        let (mut answered, mut failed) = (0, Vec::new());
        while !stopping.load(Ordering::Relaxed) {
            let (instance, address) = {
                let mut state = records.lock();
                let instance = *state.router[&app].first().expect("a target");
                *state.in_flight.entry(instance).or_default() += 1;
                (instance, state.instances[&instance].address.clone().expect("an address"))
            };
            match get(&address).await {
                Ok(body) if body == "one" || body == "two" => answered += 1,
                Ok(body) => failed.push(body),
                Err(error) => failed.push(error.to_string()),
            }
            records.lock().in_flight.entry(instance).and_modify(|count| *count -= 1);
            if records.lock().asked_to_drain.contains(&instance) {
                reconciler.wake(app);
            }
        }
        (answered, failed)
    });

    let second = host.release(app, "two", &[("web", SERVE)]);
    assert_eq!(host.deploy(app, second).await.state, DeploymentState::Done);
    let address = target(&host.records.lock(), app).unwrap();
    assert_eq!(get(&address).await.unwrap(), "two");
    host.until_only(app, 1).await;

    for count in [3, 1] {
        let web = "web".parse().unwrap();
        host.records.lock().apps.get_mut(&app).unwrap().settings.scale.insert(web, count);
        host.reconciler.wake(app);
        host.until_only(app, count.into()).await;
    }

    let before = host.records.lock().router[&app].clone();
    host.records.lock().apps.get_mut(&app).unwrap().settings.restarts += 1;
    host.reconciler.wake(app);
    host.records.until("restarted", |s| s.router[&app].is_disjoint(&before)).await;
    host.until_only(app, 1).await;

    stop.store(true, Ordering::Relaxed);
    let (answered, failed) = client.await.unwrap();
    assert!(failed.is_empty() && answered > 20, "{answered} answered, failed: {failed:?}");

    host.records.lock().apps.get_mut(&app).unwrap().settings.stopped = true;
    host.reconciler.wake(app);
    host.until_only(app, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_finds_its_environment_and_a_worker_runs_beside_it() {
    let host = Host::start().await;
    let app = host.records.app("hello");
    let serve = "env > index.html; exec httpd -f -p $PORT -h /workspace";
    let release = host.release(app, "", &[("web", serve), ("worker", "exec sleep 1000")]);
    let worker = "worker".parse().unwrap();
    host.records.lock().apps.get_mut(&app).unwrap().settings.scale.insert(worker, 1);
    host.check(release, "/index.html");
    let deployment = host.deploy(app, release).await;
    assert_eq!(deployment.state, DeploymentState::Done, "{:?}", deployment.error);
    let address = target(&host.records.lock(), app).unwrap();
    let env = get(&address).await.unwrap();
    for line in [
        "PORT=5000",
        "GREETING=hello",
        "SECRET=s3cr3t",
        "FROM_IMAGE=yes",
        "BERTH_APP=hello",
        "BERTH_PROCESS=web.1",
        "BERTH_RELEASE=v1",
        "GIT_REV=1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d",
        "HOME=/workspace",
    ] {
        assert!(env.lines().any(|own| own == line), "{line} is not in\n{env}");
    }
    let told = host.told(deployment.id).await;
    assert!(told.find("Starting web.1") < told.find("Starting worker.1"), "{told}");
    assert!(told.contains("-----> Requests go to v1"), "{told}");
    host.until_only(app, 2).await;
}

/// Ends the processes of the instance that serves, as a crash would.
async fn kill_web(host: &Host, app: AppId) {
    let kill = berth_deploy::Command {
        argv: ["sh", "-c", "kill -9 -1"].map(str::to_owned).to_vec(),
        env: vec![],
        tty: None,
        time_ms_max: 5000,
    };
    // The command ends with what it kills.
    drop(host.reconciler.exec(app, Some("web.1"), kill).await.unwrap().split().1.await);
}

/// Deploys a good release, then a bad one, and gives the error and the output of the bad one.
async fn fails(
    bad: &[(&str, &str)],
    prepare: impl FnOnce(&Host, AppId, ReleaseId),
) -> (String, String) {
    let host = Host::start().await;
    let app = host.records.app("hello");
    let good = host.release(app, "good", &[("web", SERVE)]);
    assert_eq!(host.deploy(app, good).await.state, DeploymentState::Done);
    let release = host.release(app, "bad", bad);
    prepare(&host, app, release);
    let deployment = host.deploy(app, release).await;
    assert_eq!(deployment.state, DeploymentState::Failed);
    let told = host.told(deployment.id).await;
    assert_eq!(host.records.lock().apps[&app].current_release, Some(good));
    host.until_only(app, 1).await;
    let address = target(&host.records.lock(), app).unwrap();
    assert_eq!(get(&address).await.unwrap(), "good");
    (deployment.error.unwrap(), told)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_never_opens_its_port_fails_with_its_last_lines() {
    let bad = [("web", "echo starting up; echo about to wait >&2; exec sleep 1000")];
    let (error, told) = fails(&bad, |_, _, _| {}).await;
    assert!(error.starts_with("web.1 did not open port 5000 within 2 s"), "{error}");
    assert!(error.contains("it listens on no port"), "{error}");
    assert!(told.contains(" !     web.1 did not open port 5000"), "{told}");
    assert!(
        told.contains("       starting up\n") && told.contains("       about to wait\n"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_on_the_wrong_port_or_on_the_loopback_is_told_where_it_listens() {
    for (line, expected) in [
        ("exec httpd -f -p 8000", ":8000 instead; use the port in the environment variable PORT"),
        ("exec httpd -f -p 127.0.0.1:5000", "127.0.0.1:5000, where only the container itself"),
    ] {
        let (error, told) = fails(&[("web", line)], |_, _, _| {}).await;
        assert!(error.contains(expected), "{error}");
        // Whoever waits need not wait for the deadline to learn it.
        let waiting = told.lines().find(|line| line.contains("web.1 is not ready after"));
        assert!(waiting.is_some_and(|line| line.contains(expected)), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_exits_at_once_fails_with_its_code_and_last_lines() {
    let bad = [("web", "echo no database configured >&2; exit 3")];
    let (error, told) = fails(&bad, |_, _, _| {}).await;
    assert!(error.contains("web.1 ended with exit code 3"), "{error}");
    assert!(told.contains("       no database configured\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_needs_more_memory_than_its_limit_is_told_so() {
    let bad = [("web", "tail /dev/zero")];
    let (error, _) = fails(&bad, |host, app, _| {
        let limits = Limits { memory_mib: 32, ..Limits::default() };
        let mut state = host.records.lock();
        let settings = &mut state.apps.get_mut(&app).unwrap().settings;
        settings.limits.insert("web".parse().unwrap(), limits);
    })
    .await;
    assert!(error.contains("was ended for its memory"), "{error}");
    assert!(error.contains("its limit is 32 MiB"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_answers_an_error_is_repeated() {
    let (error, _) = fails(&[("web", SERVE)], |host, _, bad| host.check(bad, "/missing")).await;
    assert!(error.contains("GET /missing answered 404 Not Found"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_not_there_and_a_program_that_is_not_there_are_named() {
    let (error, _) = fails(&[("web", SERVE)], |host, _, bad| {
        let mut state = host.records.lock();
        let layers = &mut state.launches.get_mut(&bad).unwrap().image.layers;
        layers.push(LayerRef { diff_id: Digest::from_sha256([9; 32]), ..layers[0].clone() });
    })
    .await;
    assert!(error.contains("cannot read layer sha256:0909"), "{error}");

    let (error, told) = fails(&[("web", "")], |host, _, bad| {
        let mut state = host.records.lock();
        let processes = &mut state.releases.get_mut(&bad).unwrap().manifest.processes;
        let web = processes.get_mut(&"web".parse().unwrap()).unwrap();
        web.command = vec!["gunicorn".to_owned()];
    })
    .await;
    assert!(error.contains("web.1 ended with exit code 127"), "{error}");
    assert!(told.contains("gunicorn"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_release_phase_runs_first_and_its_output_is_shown() {
    let host = Host::start().await;
    let app = host.records.app("hello");
    let phase = "echo migrating $GREETING; sleep 0.2; echo migrated";
    let release = host.release(app, "one", &[("web", SERVE), ("release", phase)]);
    let deployment = host.deploy(app, release).await;
    assert_eq!(deployment.state, DeploymentState::Done, "{:?}", deployment.error);
    let told = host.told(deployment.id).await;
    let order = [
        "-----> Running the release phase",
        "       migrating hello",
        "       migrated",
        "-----> Starting web.1",
    ];
    let places: Vec<_> = order.iter().map(|line| told.find(line)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{told}");
    host.until_only(app, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_release_phase_ends_the_deployment_before_anything_starts() {
    let bad = [("web", SERVE), ("release", "echo no such table >&2; exit 4")];
    let (error, told) = fails(&bad, |_, _, _| {}).await;
    assert_eq!(error, "the release phase ended with exit code 4");
    assert!(told.contains("       no such table\n") && !told.contains("Starting web"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_breaks_under_watch_is_rolled_back() {
    let host = Host::start_with(Timeouts { monitor_ms: 8000, ..timeouts() }).await;
    let app = host.records.app("hello");
    let good = host.release(app, "good", &[("web", SERVE)]);
    let first = host.records.deploy(app, good);
    host.reconciler.wake(app);
    host.records
        .until("watched", |s| s.deployments[&first].state == DeploymentState::Monitoring)
        .await;
    let kept = host.records.lock().router[&app].clone();
    let bad = host.release(app, "bad", &[("web", SERVE)]);
    let second = host.records.deploy(app, bad);
    host.reconciler.wake(app);
    host.records
        .until("watched", |s| s.deployments[&second].state == DeploymentState::Monitoring)
        .await;
    assert_eq!(host.records.deployment(first).state, DeploymentState::Done, "it did not wait");
    kill_web(&host, app).await;
    let deployment = host.records.until_ended(second).await;
    assert_eq!(deployment.state, DeploymentState::RolledBack);
    assert!(deployment.error.unwrap().contains("while it was watched after the switch"));
    host.until_only(app, 1).await;
    let state = host.records.lock();
    assert_eq!((state.apps[&app].current_release, &state.router[&app]), (Some(good), &kept));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_at_any_state_the_deployment_ends_and_what_runs_is_adopted() {
    use DeploymentState::{Checking, Done, Monitoring, Releasing, Starting, Switching};
    let mut host = Host::start().await;
    let app = host.records.app("hello");
    let processes = [("web", SERVE), ("release", "echo once; sleep 0.1")];
    for state in [Releasing, Starting, Checking, Switching, Monitoring, Done] {
        let release = host.release(app, state.as_str(), &processes);
        let id = host.records.deploy(app, release);
        host.reconciler.wake(app);
        host.records.until("there", |s| s.deployments[&id].state >= state).await;
        host.restart().await;
        let deployment = host.records.until_ended(id).await;
        // A phase whose start was cut off is not run a second time.
        let lost = deployment.error.as_ref().is_some_and(|error| error.contains("second time"));
        let rows: Vec<_> = host.records.lock().instances.values().cloned().collect();
        assert!(
            deployment.state == Done || (state == Releasing && lost),
            "{state:?}: {deployment:?} {rows:#?}"
        );
        if deployment.state == Done {
            host.until_only(app, 1).await;
            let address = target(&host.records.lock(), app).unwrap();
            assert_eq!(get(&address).await.unwrap(), state.as_str());
        }
        let phases = host.records.lock();
        let phases = phases.instances.values().filter(|row| row.deployment == Some(id));
        assert_eq!(phases.filter(|row| row.role == InstanceRole::Release).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_outlive_agent_and_platform_and_a_lost_one_is_replaced() {
    let mut host = Host::start().await;
    let app = host.records.app("hello");
    let release =
        host.release(app, "one", &[("web", "sleep 1; exec httpd -f -p $PORT -h /workspace")]);
    assert_eq!(host.deploy(app, release).await.state, DeploymentState::Done);
    let before = host.records.lock().router[&app].clone();
    host.kill_agent();
    host.restart().await;
    let address = target(&host.records.lock(), app).unwrap();
    assert_eq!(get(&address).await.unwrap(), "one");
    host.until_only(app, 1).await;
    assert_eq!(host.records.lock().router[&app], before, "the same instance serves");

    let instance = *before.first().unwrap();
    let stop = berth_container::Request::Stop { instance, grace_ms: 0 };
    host.agent.call(&stop, &[]).await.unwrap();
    host.records.until("replaced", |s| s.router[&app].len() == 1 && s.router[&app] != before).await;
    host.until_only(app, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_crashes_leaves_the_table_until_it_answers_again() {
    let host = Host::start().await;
    let app = host.records.app("hello");
    let release = host.release(app, "one", &[("web", SERVE)]);
    assert_eq!(host.deploy(app, release).await.state, DeploymentState::Done);
    let instance = *host.records.lock().router[&app].first().unwrap();
    kill_web(&host, app).await;
    host.records.until("out of the table", |s| s.router[&app].is_empty()).await;
    host.records.until("back in the table", |s| s.router[&app].contains(&instance)).await;
    let statuses = host.containers().await;
    assert_eq!((statuses.len(), statuses[0].attempt), (1, 2));
    assert_eq!(statuses[0].state, ContainerState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ignores_sigterm_is_killed_after_its_grace_and_a_container_without_a_row_is_ended() {
    let host = Host::start().await;
    let app = host.records.app("hello");
    let stubborn = "trap '' TERM; httpd -p $PORT -h /workspace; while true; do sleep 1; done";
    let release = host.release(app, "one", &[("web", stubborn)]);
    assert_eq!(host.deploy(app, release).await.state, DeploymentState::Done);
    host.records.lock().apps.get_mut(&app).unwrap().settings.stopped = true;
    let began = std::time::Instant::now();
    host.reconciler.wake(app);
    host.until_only(app, 0).await;
    assert!(began.elapsed().as_millis() >= 1900, "it had its grace of 2 s");

    host.records.lock().apps.get_mut(&app).unwrap().settings.stopped = false;
    host.reconciler.wake(app);
    host.until_only(app, 1).await;
    host.records.lock().apps.remove(&app);
    host.records.lock().instances.clear();
    host.reconciler.wake(app);
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while !host.containers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
