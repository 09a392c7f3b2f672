use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::simulation::*;
use super::*;
use crate::{InstanceRole, Manifest, Process};

fn running(behaviour: Behaviour, processes: BTreeMap<ProcessName, u16>) -> (Machine, ReleaseId) {
    let mut machine = Machine::new();
    let release = machine.release(behaviour, None, processes);
    machine.deploy(release);
    machine.settle_calmly();
    machine.trace.clear();
    (machine, release)
}

fn position(machine: &Machine, what: &str, wanted: impl Fn(&Step) -> bool) -> usize {
    let at = machine.trace.iter().position(wanted);
    at.unwrap_or_else(|| panic!("no {what} in {:#?}", machine.trace))
}

fn is_stop(step: &Step) -> bool {
    matches!(step, Step::Stop { .. })
}

#[test]
fn a_first_deployment_starts_checks_switches_watches_and_is_done() {
    let mut machine = Machine::new();
    let release = machine.release(Behaviour::Good, None, web(2));
    let id = machine.deploy(release);
    machine.settle_calmly();
    assert_eq!(machine.state(id), DeploymentState::Done);
    assert_eq!(machine.serving(), 2);
    let states: Vec<_> = machine
        .trace
        .iter()
        .filter_map(|step| match step {
            Step::Advance(_, state) => Some(*state),
            Step::Switch(_) => Some(DeploymentState::Switching),
            _ => None,
        })
        .collect();
    use DeploymentState::*;
    assert_eq!(states, [Fetching, Starting, Checking, Switching, Monitoring, Done]);
}

#[test]
fn old_instances_are_kept_until_the_watch_is_over_and_then_drained_before_they_stop() {
    let (mut machine, old) = running(Behaviour::Good, web(2));
    let new = machine.release(Behaviour::Good, None, web(2));
    let id = machine.deploy(new);
    machine.settle_calmly();
    assert_eq!(machine.state(id), DeploymentState::Done);
    assert_eq!((machine.living(old), machine.living(new)), (0, 2));
    let done = position(&machine, "end", |s| *s == Step::Advance(id, DeploymentState::Done));
    let drain = position(&machine, "drain", |s| matches!(s, Step::Drain { .. }));
    let stop = position(&machine, "stop", is_stop);
    assert!(done < drain && drain < stop, "{:#?}", machine.trace);
}

#[test]
fn workers_start_when_the_web_instances_of_their_release_are_ready() {
    let (mut machine, _) = running(Behaviour::Good, processes(&[("web", 1), ("worker", 1)]));
    let new = machine.release(Behaviour::Good, None, processes(&[("web", 1), ("worker", 2)]));
    let id = machine.deploy(new);
    machine.settle_calmly();
    assert_eq!(machine.state(id), DeploymentState::Done);
    let start = |name: &'static str| move |s: &Step| matches!(s, Step::StartInstance { process, .. } if process.as_str() == name);
    let probed = machine.trace.iter().rposition(|s| matches!(s, Step::Probe(_))).unwrap();
    assert!(position(&machine, "web", start("web")) < probed);
    assert!(probed < position(&machine, "worker", start("worker")));
    assert!(
        position(&machine, "worker", start("worker"))
            < position(&machine, "switch", |s| matches!(s, Step::Switch(_)))
    );
}

#[test]
fn what_does_not_come_up_fails_and_the_old_release_goes_on() {
    for (behaviour, expected) in [
        (Behaviour::Mute, "NotReady"),
        (Behaviour::Exits, "Exited"),
        (Behaviour::Refused, "NotStarted"),
    ] {
        let (mut machine, old) = running(Behaviour::Good, web(2));
        let new = machine.release(behaviour, None, web(1));
        let id = machine.deploy(new);
        machine.settle_calmly();
        assert_eq!(machine.state(id), DeploymentState::Failed);
        let failure = format!("{:?}", machine.failures);
        assert!(failure.contains(expected), "{behaviour:?}: {failure}");
        assert_eq!((machine.current, machine.living(new), machine.serving()), (Some(old), 0, 2));
    }
}

#[test]
fn a_ready_instance_of_a_deployment_that_failed_is_not_drained() {
    let (mut machine, _) = running(Behaviour::Good, web(1));
    let new = machine.release(Behaviour::Good, None, web(2));
    let id = machine.deploy(new);
    while machine.rows.values().filter(|row| row.release == new).count() < 2 {
        machine.settle(1, || Crash::Never);
    }
    let second = machine.rows.values().rfind(|row| row.release == new).unwrap().id;
    let (_, (since_ms, container)) = machine.containers.remove_entry(&second).unwrap();
    let crashing = Container { phase: Phase::Waiting, attempt: 3, ..container };
    while machine.state(id) != DeploymentState::Failed {
        machine.containers.insert(second, (since_ms.max(machine.now_ms), crashing.clone()));
        machine.settle(1, || Crash::Never);
    }
    machine.settle_calmly();
    assert_eq!(machine.living(new), 0);
    assert!(!machine.trace.iter().any(|step| matches!(step, Step::Drain { .. })));
}

#[test]
fn three_ends_of_one_process_fail_a_deployment_long_before_its_deadline() {
    let (mut machine, _) = running(Behaviour::Good, web(1));
    let new = machine.release(Behaviour::Exits, None, web(1));
    let began_ms = machine.now_ms;
    machine.deploy(new);
    machine.settle_calmly();
    assert!(machine.now_ms - began_ms < 10_000);
}

#[test]
fn time_in_which_the_platform_was_away_counts_for_no_deadline() {
    let mut machine = Machine::new();
    let release = machine.release(Behaviour::Mute, None, web(1));
    let id = machine.deploy(release);
    while machine.state(id) != DeploymentState::Checking {
        machine.settle(1, || Crash::Never);
    }
    machine.now_ms += 3_600_000;
    let is_fail = |step: &Step| matches!(step, Step::Fail(..));
    let mut observed = machine.observed();
    assert!(plan(&machine.wanted(), &observed).iter().any(is_fail));
    observed.began_ms = observed.now_ms;
    assert!(!plan(&machine.wanted(), &observed).iter().any(is_fail));
}

#[test]
fn a_release_that_breaks_under_watch_is_rolled_back_once_without_a_gap() {
    let (mut machine, old) = running(Behaviour::Good, web(1));
    let new = machine.release(Behaviour::Breaks, Some(0), web(1));
    let id = machine.deploy(new);
    machine.settle_calmly();
    assert_eq!(machine.state(id), DeploymentState::RolledBack);
    let rollback = machine.deployments.last().unwrap();
    assert!(rollback.rollback && rollback.state == DeploymentState::Done, "{rollback:?}");
    assert_eq!((machine.current, machine.living(new), machine.serving()), (Some(old), 0, 1));
    let starts = machine.trace.iter().filter(|s| matches!(s, Step::StartInstance { .. })).count();
    assert_eq!(starts, 1, "the old instance never stopped, so nothing but the new one starts");
}

#[test]
fn a_rollback_that_fails_is_not_rolled_back() {
    let (mut machine, _) = running(Behaviour::Breaks, web(1));
    let new = machine.release(Behaviour::Breaks, None, web(1));
    machine.deploy(new);
    machine.settle(3000, || Crash::Never);
    let rollbacks = machine.deployments.iter().filter(|deployment| deployment.rollback).count();
    assert!(rollbacks <= 1, "{:#?}", machine.deployments);
    assert!(machine.deployments.iter().all(|deployment| deployment.state.is_terminal()));
}

#[test]
fn the_release_phase_runs_before_any_instance_and_its_failure_ends_the_deployment() {
    let (mut machine, old) = running(Behaviour::Good, web(1));
    let good = machine.release(Behaviour::Good, Some(0), web(1));
    let id = machine.deploy(good);
    machine.settle_calmly();
    assert_eq!(machine.state(id), DeploymentState::Done);
    let phase = position(&machine, "phase", |s| matches!(s, Step::StartReleasePhase(_)));
    assert!(phase < position(&machine, "start", |s| matches!(s, Step::StartInstance { .. })));

    let bad = machine.release(Behaviour::Good, Some(3), web(1));
    let id = machine.deploy(bad);
    machine.trace.clear();
    machine.settle_calmly();
    assert_eq!(machine.state(id), DeploymentState::Failed);
    assert!(matches!(machine.failures[..], [Failure::ReleasePhase(_)]), "{:?}", machine.failures);
    assert!(!machine.trace.iter().any(|s| matches!(s, Step::StartInstance { .. })));
    assert_eq!((machine.current, machine.living(old)), (Some(good), 0));
}

#[test]
fn a_release_phase_is_adopted_after_a_crash_and_lost_means_failed() {
    for (lost, expected) in [(false, DeploymentState::Done), (true, DeploymentState::Failed)] {
        let (mut machine, _) = running(Behaviour::Good, web(1));
        let new = machine.release(Behaviour::Good, Some(0), web(1));
        let id = machine.deploy(new);
        while machine.phases_started.is_empty() {
            machine.settle(1, || Crash::Never);
        }
        if lost {
            machine.containers.retain(|id, _| machine.rows[id].role == InstanceRole::Instance);
        }
        machine.settle_calmly();
        assert_eq!(machine.state(id), expected);
        assert_eq!(machine.phases_started[&id], 1);
    }
}

#[test]
fn an_instance_whose_end_is_under_way_is_left_alone_and_its_slot_filled() {
    let (mut machine, release) = running(Behaviour::Good, processes(&[("worker", 1)]));
    let id = machine.containers.pop_first().unwrap().0;
    let mut observed = machine.observed();
    observed.ending = [id].into();
    let steps = plan(&machine.wanted(), &observed);
    assert!(matches!(steps[..], [Step::StartInstance { slot: 1, .. }]), "{steps:?}");

    let phase = machine.release(Behaviour::Good, Some(0), processes(&[("worker", 1)]));
    let deployment = machine.deploy(phase);
    while machine.phases_started.is_empty() {
        machine.settle(1, || Crash::Never);
    }
    let own = |row: &&InstanceRecord| row.deployment == Some(deployment);
    let run = machine.rows.values().find(own).unwrap().id;
    let mut observed = machine.observed();
    observed.containers.remove(&run);
    observed.ending = [run].into();
    let fails = |step: &Step| matches!(step, Step::Fail(..));
    assert!(!plan(&machine.wanted(), &observed).iter().any(fails), "{release}");
}

#[test]
fn what_is_left_of_an_instance_that_ended_is_cleared_before_its_address_is_freed() {
    let (mut machine, _) = running(Behaviour::Good, web(1));
    let id = *machine.rows.keys().next().unwrap();
    machine.stopped = true;
    machine.served = Some(BTreeSet::new());
    machine.rows.get_mut(&id).unwrap().state = InstanceState::Failed;
    assert!(matches!(plan(&machine.wanted(), &machine.observed())[..], [Step::Stop { .. }]));
    machine.containers.clear();
    assert_eq!(plan(&machine.wanted(), &machine.observed()), [Step::FreeAddress(id)]);
}

#[test]
fn a_restart_brings_new_instances_of_the_same_release_before_the_old_ones_go() {
    let (mut machine, release) = running(Behaviour::Good, web(2));
    let before: BTreeSet<_> = machine.served.clone().unwrap();
    machine.restarts += 1;
    while machine.served.as_ref().is_some_and(|served| !served.is_disjoint(&before)) {
        machine.settle(1, || Crash::Never);
        assert!(machine.serving() >= 2);
    }
    machine.settle_calmly();
    assert_eq!((machine.living(release), machine.serving()), (2, 2));
}

#[test]
fn scaling_adds_and_takes_away_and_never_a_ready_instance_for_one_that_is_not() {
    let (mut machine, release) = running(Behaviour::Good, web(1));
    machine.kinds.get_mut(&release).unwrap().processes = web(3);
    machine.settle_calmly();
    assert_eq!(machine.serving(), 3);
    let silent = *machine.served.clone().unwrap().first().unwrap();
    machine.rows.get_mut(&silent).unwrap().answering = None;
    machine.kinds.get_mut(&release).unwrap().processes = web(1);
    let steps = plan(&machine.wanted(), &machine.observed());
    let drains = steps.iter().filter(|step| matches!(step, Step::Drain { .. })).count();
    assert_eq!(drains, 1, "one of the two ready ones stands in for slot 1: {steps:?}");
    machine.settle_calmly();
    assert_eq!((machine.living(release), machine.serving()), (1, 1));
}

#[test]
fn a_stopped_app_has_no_instances_and_starts_again() {
    let (mut machine, release) = running(Behaviour::Good, processes(&[("web", 1), ("worker", 1)]));
    machine.stopped = true;
    machine.settle_calmly();
    assert_eq!((machine.living(release), machine.serving()), (0, 0));
    machine.stopped = false;
    machine.settle_calmly();
    assert_eq!((machine.living(release), machine.serving()), (2, 1));
}

#[test]
fn of_the_deployments_that_wait_only_the_newest_is_made() {
    let (mut machine, _) = running(Behaviour::Good, web(1));
    let ids: Vec<_> = (0..3)
        .map(|_| {
            let release = machine.release(Behaviour::Good, None, web(1));
            machine.deploy(release)
        })
        .collect();
    machine.settle_calmly();
    let states: Vec<_> = ids.iter().map(|id| machine.state(*id)).collect();
    use DeploymentState::*;
    assert_eq!(states, [Superseded, Superseded, Done]);
}

#[test]
fn an_instance_whose_process_ended_leaves_the_table_and_comes_back_when_it_answers() {
    let (mut machine, _) = running(Behaviour::Good, web(1));
    let (id, (_, container)) = machine.containers.pop_first().unwrap();
    let waiting = Container { phase: Phase::Waiting, exit_code: Some(137), ..container };
    machine.containers.insert(id, (machine.now_ms, waiting));
    machine.settle(4, || Crash::Never);
    assert_eq!(machine.served, Some(BTreeSet::new()));
    machine.settle_calmly();
    assert_eq!(machine.served, Some([id].into()), "the same instance, in its second attempt");
}

#[test]
fn what_the_host_lost_is_replaced_and_its_address_freed() {
    let (mut machine, release) = running(Behaviour::Good, web(1));
    let (id, _) = machine.containers.pop_first().unwrap();
    machine.settle_calmly();
    assert_eq!((machine.living(release), machine.serving()), (1, 1));
    assert_eq!(machine.rows[&id].state, InstanceState::Failed);
    assert_eq!(machine.rows[&id].address, None);
}

#[test]
fn an_instance_in_the_table_is_not_stopped_while_the_router_does_not_answer() {
    let (mut machine, _) = running(Behaviour::Good, web(1));
    machine.stopped = true;
    machine.served = None;
    let drains = plan(&machine.wanted(), &machine.observed());
    assert!(drains.iter().any(|step| matches!(step, Step::Drain { .. })));
    let id = *machine.rows.keys().next().unwrap();
    let row = machine.rows.get_mut(&id).unwrap();
    row.state = InstanceState::Draining;
    row.draining_at_ms = Some(machine.now_ms);
    machine.now_ms += 59_000;
    assert!(!plan(&machine.wanted(), &machine.observed()).iter().any(is_stop));
    machine.now_ms += 1000;
    assert!(plan(&machine.wanted(), &machine.observed()).iter().any(is_stop));
}

#[test]
fn one_off_commands_end_with_their_client_unless_they_are_detached() {
    let (mut machine, release) = running(Behaviour::Good, web(1));
    let container = machine.containers.values().next().unwrap().clone();
    for (n, role) in [(1, InstanceRole::Run), (2, InstanceRole::Detached)] {
        let id = InstanceId::new(1 << 40, [n; 10]);
        let state = InstanceState::Running;
        machine.rows.insert(id, InstanceRecord { id, role, state, ..row(release, "run", 1) });
        machine.containers.insert(id, container.clone());
    }
    let mut observed = machine.observed();
    let stops =
        |observed: &Observed| plan(&machine.wanted(), observed).into_iter().filter(is_stop).count();
    assert_eq!(stops(&observed), 1);
    observed.held = machine.rows.keys().copied().collect();
    assert_eq!(stops(&observed), 0);
}

#[test]
fn a_wasm_app_has_one_target_and_is_loaded_again_when_the_worker_forgot_it() {
    let process = Process { command: vec![], working_dir: "/".into(), check: None };
    let manifest = Manifest {
        processes: [("web".parse().unwrap(), process)].into(),
        release: None,
        runtime: Runtime::Wasm { component: crate::Digest::from_sha256([1; 32]) },
        formation: BTreeMap::new(),
        wasm: crate::manifest::WasmSettings::default(),
    };
    let release = stored(manifest);
    let settings = AppSettings { scale: web(5), ..AppSettings::default() };
    let formation = Formation::of(&release, &settings);
    assert_eq!(formation.processes, web(1));

    let ready = InstanceRecord {
        state: InstanceState::Ready,
        address: Some(TargetAddress::Wasm),
        answering: Some(1),
        ..row(release.id, "web", 1)
    };
    let wanted = Wanted {
        app: release.app,
        stopped: false,
        restarts: 0,
        alone: BTreeSet::new(),
        current: Some(formation),
        deployments: vec![],
        timeouts: Timeouts::default(),
    };
    let observed = Observed {
        served: Some([ready.id].into()),
        instances: vec![ready.clone()],
        ..Observed::default()
    };
    assert_eq!(plan(&wanted, &observed), [Step::Resume(ready.id)]);
}

#[test]
fn formation_of_the_manifest_replaces_the_scale() {
    let process = Process { command: vec![], working_dir: "/".into(), check: None };
    let names = ["web", "worker", "clock"].map(|name| name.parse::<ProcessName>().unwrap());
    let manifest = Manifest {
        processes: names.iter().map(|name| (name.clone(), process.clone())).collect(),
        release: None,
        runtime: Runtime::Container,
        formation: processes(&[("worker", 4)]),
        wasm: crate::manifest::WasmSettings::default(),
    };
    let settings =
        AppSettings { scale: processes(&[("web", 2), ("worker", 9)]), ..Default::default() };
    let formation = Formation::of(&stored(manifest), &settings);
    assert_eq!(formation.processes, processes(&[("web", 2), ("worker", 4), ("clock", 0)]));
}

fn any_behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        4 => Just(Behaviour::Good),
        1 => Just(Behaviour::Mute),
        1 => Just(Behaviour::Exits),
        1 => Just(Behaviour::Breaks),
        1 => Just(Behaviour::Refused),
    ]
}

fn any_crash() -> impl Strategy<Value = Crash> {
    prop_oneof![
        6 => Just(Crash::Never),
        1 => Just(Crash::Amid),
        1 => Just(Crash::Before),
    ]
}

fn alone(processes: &[&str]) -> BTreeSet<ProcessName> {
    processes.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn a_process_with_a_volume_is_drained_and_stopped_before_its_new_instance_starts() {
    let (mut machine, old) = running(Behaviour::Good, web(1));
    machine.alone = alone(&["web"]);
    let new = machine.release(Behaviour::Good, None, web(1));
    let id = machine.deploy(new);
    machine.settle_calmly();
    assert_eq!(machine.state(id), DeploymentState::Done);
    assert_eq!((machine.living(old), machine.living(new)), (0, 1));
    let drain = position(&machine, "drain", |s| matches!(s, Step::Drain { .. }));
    let stop = position(&machine, "stop", is_stop);
    let start = position(&machine, "start", |s| matches!(s, Step::StartInstance { .. }));
    assert!(drain < stop && stop < start, "{:#?}", machine.trace);
}

#[test]
fn a_restart_of_a_process_with_a_volume_stops_it_first_and_leaves_the_others_alone() {
    let (mut machine, _) = running(Behaviour::Good, processes(&[("web", 2), ("db", 1)]));
    machine.alone = alone(&["db"]);
    machine.restarts += 1;
    machine.settle_calmly();
    let start = |name: &'static str| move |s: &Step| matches!(s, Step::StartInstance { process, .. } if process.as_str() == name);
    let stopped = machine
        .trace
        .iter()
        .position(|step| match step {
            Step::Stop { instance, .. } => machine.rows[instance].process.as_str() == "db",
            _ => false,
        })
        .unwrap();
    assert!(stopped < position(&machine, "db", start("db")));
    assert!(
        position(&machine, "web", start("web"))
            < position(&machine, "drain", |s| matches!(s, Step::Drain { .. }))
    );
    assert_eq!(machine.serving(), 2);
}

#[test]
fn a_worker_with_a_volume_goes_on_until_the_new_web_instances_are_ready() {
    let counts = processes(&[("web", 1), ("db", 1)]);
    let (mut machine, old) = running(Behaviour::Good, counts.clone());
    machine.alone = alone(&["db"]);
    let mute = machine.release(Behaviour::Mute, None, counts.clone());
    let failed = machine.deploy(mute);
    machine.settle_calmly();
    assert_eq!(machine.state(failed), DeploymentState::Failed);
    let touched = machine.trace.iter().any(|step| match step {
        Step::Stop { instance, .. } => {
            let row = &machine.rows[instance];
            row.release == old && row.process.as_str() == "db"
        }
        _ => false,
    });
    assert!(!touched, "{:#?}", machine.trace);
    let good = machine.release(Behaviour::Good, None, counts);
    let done = machine.deploy(good);
    machine.settle_calmly();
    assert_eq!(machine.state(done), DeploymentState::Done);
    assert_eq!((machine.living(old), machine.living(good)), (0, 2));
}

#[test]
fn the_release_before_comes_back_when_the_one_that_took_its_volume_fails() {
    for behaviour in [Behaviour::Mute, Behaviour::Exits, Behaviour::Breaks, Behaviour::Refused] {
        let (mut machine, old) = running(Behaviour::Good, web(1));
        machine.alone = alone(&["web"]);
        let new = machine.release(behaviour, None, web(1));
        machine.deploy(new);
        machine.settle_calmly();
        assert_eq!(machine.current, Some(old), "{behaviour:?}");
        assert_eq!((machine.living(old), machine.living(new)), (1, 0), "{behaviour:?}");
        assert_eq!(machine.serving(), 1, "{behaviour:?}");
    }
}

#[test]
fn a_process_with_a_volume_runs_once_whatever_the_release_says() {
    let mut machine = Machine::new();
    machine.alone = alone(&["web"]);
    let release = machine.release(Behaviour::Good, None, web(3));
    let id = machine.deploy(release);
    machine.settle_calmly();
    assert_eq!(machine.state(id), DeploymentState::Done);
    assert_eq!(machine.living(release), 1);
}

/// What the app is as it is wanted means when nothing is left to be done.
fn assert_converged(machine: &Machine) {
    assert!(machine.violations.is_empty(), "{:#?}", machine.violations);
    for deployment in &machine.deployments {
        let state = deployment.state;
        assert!(state.is_terminal(), "{deployment:?} after {:#?}", machine.last_steps());
    }
    for (release, kind) in &machine.kinds {
        let wanted: u16 = kind.processes.values().sum();
        let wanted = if machine.current == Some(*release) { usize::from(wanted) } else { 0 };
        let living = machine.living(*release);
        // What does not come up is tried again for ever, beside what it is to replace.
        let settles = machine.current != Some(*release) || kind.behaviour == Behaviour::Good;
        assert!(living == wanted || !settles, "{release}: {living} of {wanted}");
    }
    for (id, (_, container)) in &machine.containers {
        assert!(!machine.rows[id].state.is_terminal(), "{container:?} has no row");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_crashes_in_between_a_deployment_ends_and_nothing_is_left(
        old in any_behaviour(),
        new in any_behaviour(),
        phase in prop_oneof![Just(None), Just(Some(0)), Just(Some(1))],
        workers in 0..2_u16,
        restart in any::<bool>(),
        crashes in prop::collection::vec(any_crash(), 0..60),
    ) {
        let mut machine = Machine::new();
        let first = machine.release(old, None, processes(&[("web", 1), ("worker", workers)]));
        machine.deploy(first);
        let mut crashes = crashes.into_iter();
        let mut crash = || crashes.next().unwrap_or(Crash::Never);
        machine.settle(400, &mut crash);
        let second = machine.release(new, phase, processes(&[("web", 2), ("worker", workers)]));
        machine.deploy(second);
        machine.restarts += u64::from(restart);
        machine.settle(6000, crash);
        assert_converged(&machine);
        prop_assert!(machine.phases_started.values().all(|count| *count == 1));
        if new == Behaviour::Good && phase != Some(1) && machine.deployments[1].error.is_none() {
            prop_assert_eq!(machine.current, Some(second));
            prop_assert_eq!(machine.serving(), 2);
        }
    }

    #[test]
    fn whatever_crashes_in_between_no_two_instances_ever_hold_a_volume(
        old in any_behaviour(),
        new in any_behaviour(),
        which in prop_oneof![Just(vec!["web"]), Just(vec!["db"]), Just(vec!["web", "db"])],
        restart in any::<bool>(),
        crashes in prop::collection::vec(any_crash(), 0..60),
    ) {
        let mut machine = Machine::new();
        machine.alone = alone(&which);
        let counts = processes(&[("web", 1), ("db", 1)]);
        let first = machine.release(old, None, counts.clone());
        machine.deploy(first);
        let mut crashes = crashes.into_iter();
        let mut crash = || crashes.next().unwrap_or(Crash::Never);
        machine.settle(400, &mut crash);
        let second = machine.release(new, None, counts);
        machine.deploy(second);
        machine.restarts += u64::from(restart);
        machine.settle(6000, crash);
        assert_converged(&machine);
        if new == Behaviour::Good && machine.deployments[1].error.is_none() {
            prop_assert_eq!(machine.current, Some(second));
            prop_assert_eq!(machine.serving(), 1);
        }
    }

    #[test]
    fn a_good_app_never_has_fewer_answering_targets_than_it_had(
        count in 1..4_u16,
        new in any_behaviour(),
        restart in any::<bool>(),
        crashes in prop::collection::vec(any_crash(), 0..60),
    ) {
        let (mut machine, old) = running(Behaviour::Good, web(count));
        let release = machine.release(new, None, web(count));
        machine.deploy(release);
        machine.restarts += u64::from(restart);
        let mut crashes = crashes.into_iter();
        for _ in 0..4000 {
            let done = machine.settle(1, || crashes.next().unwrap_or(Crash::Never));
            // A release that breaks under watch serves until the rollback's table is there.
            let switched = machine.current != Some(old) || machine.deployments.len() > 2;
            if !switched || new == Behaviour::Good {
                prop_assert!(machine.serving() >= usize::from(count));
            }
            if done {
                break;
            }
        }
        assert_converged(&machine);
    }

    #[test]
    fn from_any_rows_and_containers_it_comes_to_what_is_wanted(
        states in prop::collection::vec((0..3_usize, 0..8_usize, 0..5_usize, 1..4_u16, any::<bool>()), 0..12),
        deployment in prop::option::of((0..7_usize, 0..3_usize)),
        router in any::<bool>(),
    ) {
        let mut machine = Machine::new();
        let releases: Vec<_> =
            (0..3).map(|_| machine.release(Behaviour::Good, None, web(2))).collect();
        machine.current = Some(releases[0]);
        let id = deployment.map(|(state, release)| {
            let id = machine.deploy(releases[release]);
            let deployment = machine.deployments.last_mut().unwrap();
            deployment.state = DeploymentState::ALL[state];
            if deployment.state >= DeploymentState::Switching {
                deployment.previous = Some(releases[1]);
                machine.current = Some(releases[release]);
            }
            id
        });
        for (n, (release, state, phase, slot, own)) in states.into_iter().enumerate() {
            let instance = InstanceId::new(1000, [u8::try_from(n).unwrap(); 10]);
            let state = InstanceState::ALL[state];
            let ready = matches!(state, InstanceState::Ready | InstanceState::Draining);
            machine.rows.insert(instance, InstanceRecord {
                id: instance,
                state,
                deployment: id.filter(|_| own),
                answering: ready.then_some(1),
                address: (state >= InstanceState::Running).then_some(TargetAddress::Wasm),
                draining_at_ms: (state == InstanceState::Draining).then_some(machine.now_ms),
                stopped_at_ms: state.is_terminal().then_some(0),
                ..row(releases[release], "web", slot)
            });
            let phases = [Phase::Starting, Phase::Running, Phase::Waiting, Phase::Exited];
            if let Some(phase) = phases.get(phase).filter(|_| !state.is_terminal()) {
                let container = Container {
                    phase: *phase,
                    attempt: 1,
                    exit_code: (*phase == Phase::Exited).then_some(1),
                    running_ms: 0,
                    address: Some(TargetAddress::Wasm),
                };
                machine.containers.insert(instance, (machine.now_ms, container));
            }
        }
        if router {
            let rows: Vec<_> = machine.rows.values().cloned().collect();
            let targets = targets(machine.current, &rows);
            machine.served = Some(targets.into_iter().map(|target| target.instance).collect());
        }
        prop_assert!(machine.settle(4000, || Crash::Never), "{:#?}", machine.last_steps());
        assert_converged(&machine);
        prop_assert_eq!(machine.serving(), 2);
    }
}
