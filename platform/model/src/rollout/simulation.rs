//! A host, a store and a router of plain values, to take the planner's steps on.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{Digest, InstanceRole, PrincipalId};

/// How the processes of a release behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Answers 400 ms after its start.
    Good,
    /// Runs and never answers.
    Mute,
    /// Ends with code 1, 20 ms after its start.
    Exits,
    /// Answers, and ends with code 1 three seconds after its start.
    Breaks,
    /// The host refuses to start it.
    Refused,
}

#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) behaviour: Behaviour,
    pub(super) phase: Option<i32>,
    pub(super) processes: BTreeMap<ProcessName, u16>,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) now_ms: i64,
    pub(super) kinds: BTreeMap<ReleaseId, Kind>,
    pub(super) current: Option<ReleaseId>,
    pub(super) deployments: Vec<Deployment>,
    pub(super) stopped: bool,
    pub(super) restarts: u64,
    /// Processes that mount a volume.
    pub(super) alone: BTreeSet<ProcessName>,
    pub(super) rows: BTreeMap<InstanceId, InstanceRecord>,
    /// Start of the attempt, Unix milliseconds, beside each container.
    pub(super) containers: BTreeMap<InstanceId, (i64, Container)>,
    pub(super) served: Option<BTreeSet<InstanceId>>,
    pub(super) fetched: BTreeSet<ReleaseId>,
    pub(super) hold_until_ms: i64,
    pub(super) phases_started: BTreeMap<DeploymentId, u32>,
    /// Every step that was taken.
    pub(super) trace: Vec<Step>,
    /// Why each failed deployment failed.
    pub(super) failures: Vec<Failure>,
    /// What must never happen and did.
    pub(super) violations: Vec<String>,
    ids: u64,
}

pub(super) fn web(count: u16) -> BTreeMap<ProcessName, u16> {
    processes(&[("web", count)])
}

pub(super) fn processes(counts: &[(&str, u16)]) -> BTreeMap<ProcessName, u16> {
    counts.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect()
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            now_ms: 1_000_000,
            kinds: BTreeMap::new(),
            current: None,
            deployments: Vec::new(),
            stopped: false,
            restarts: 0,
            alone: BTreeSet::new(),
            rows: BTreeMap::new(),
            containers: BTreeMap::new(),
            served: None,
            fetched: BTreeSet::new(),
            hold_until_ms: 0,
            phases_started: BTreeMap::new(),
            trace: Vec::new(),
            failures: Vec::new(),
            violations: Vec::new(),
            ids: 0,
        }
    }

    fn random(&mut self) -> [u8; 10] {
        self.ids += 1;
        let mut bytes = [0; 10];
        bytes[2..].copy_from_slice(&self.ids.to_be_bytes());
        bytes
    }

    /// Ids sort by creation, as the ones of the store do.
    fn at(&self) -> u64 {
        self.ids + 1
    }

    pub(super) fn release(
        &mut self,
        behaviour: Behaviour,
        phase: Option<i32>,
        processes: BTreeMap<ProcessName, u16>,
    ) -> ReleaseId {
        let id = ReleaseId::new(self.at(), self.random());
        self.kinds.insert(id, Kind { behaviour, phase, processes });
        id
    }

    pub(super) fn deploy(&mut self, release: ReleaseId) -> DeploymentId {
        self.queue(release, false)
    }

    fn queue(&mut self, release: ReleaseId, rollback: bool) -> DeploymentId {
        let id = DeploymentId::new(self.at(), self.random());
        self.deployments.push(Deployment {
            id,
            app: AppId::new(0, [0; 10]),
            release,
            state: DeploymentState::Queued,
            rollback,
            previous: None,
            error: None,
            created_at_ms: self.now_ms,
            changed_at_ms: self.now_ms,
            finished_at_ms: None,
        });
        id
    }

    pub(super) fn state(&self, id: DeploymentId) -> DeploymentState {
        self.deployments.iter().find(|deployment| deployment.id == id).unwrap().state
    }

    fn formation(&self, release: ReleaseId) -> Formation {
        let kind = &self.kinds[&release];
        let processes = kind.processes.clone();
        Formation { release, processes, phase: kind.phase.is_some(), wasm: false }
    }

    pub(super) fn wanted(&self) -> Wanted {
        let active = self.deployments.iter().filter(|deployment| !deployment.state.is_terminal());
        Wanted {
            app: AppId::new(0, [0; 10]),
            stopped: self.stopped,
            restarts: self.restarts,
            alone: self.alone.clone(),
            current: self.current.map(|release| self.formation(release)),
            deployments: active
                .map(|deployment| Rollout {
                    deployment: deployment.clone(),
                    formation: self.formation(deployment.release),
                })
                .collect(),
            timeouts: Timeouts::default(),
        }
    }

    pub(super) fn observed(&self) -> Observed {
        let release = |release| self.fetched.contains(&release);
        Observed {
            now_ms: self.now_ms,
            began_ms: 0,
            instances: self.rows.values().cloned().collect(),
            containers: self
                .containers
                .iter()
                .map(|(id, (since_ms, container))| {
                    let running_ms = u64::try_from(self.now_ms - since_ms).unwrap_or(0);
                    (*id, Container { running_ms, ..container.clone() })
                })
                .collect(),
            served: self.served.clone(),
            drained: BTreeSet::new(),
            fetched: self
                .deployments
                .iter()
                .filter(|deployment| !deployment.state.is_terminal())
                .all(|deployment| release(deployment.release)),
            fetch_error: None,
            held: BTreeSet::new(),
            ending: BTreeSet::new(),
            hold_until_ms: self.hold_until_ms,
        }
    }

    /// Takes steps until nothing is to be done, at most `rounds` times. `crash` says before each
    /// step how much of it is done: all, the row only, or nothing, and the rest of the list goes.
    pub(super) fn settle(&mut self, rounds: u32, mut crash: impl FnMut() -> Crash) -> bool {
        for _ in 0..rounds {
            self.run_host();
            let steps = plan(&self.wanted(), &self.observed());
            self.check();
            let mut acted = false;
            let mut until_ms = None;
            for step in steps {
                if let Step::Wait { until_ms: at } = step {
                    until_ms = Some(at);
                    continue;
                }
                let crash = crash();
                if crash == Crash::Before {
                    acted = true;
                    break;
                }
                acted |= self.take(&step, crash == Crash::Amid);
                self.trace.push(step);
                if crash == Crash::Amid {
                    acted = true;
                    break;
                }
            }
            if acted {
                continue;
            }
            match self.next_event_ms(until_ms) {
                Some(at_ms) => self.now_ms = at_ms,
                None => return true,
            }
        }
        false
    }

    pub(super) fn settle_calmly(&mut self) {
        assert!(self.settle(3000, || Crash::Never), "it never settles: {:#?}", self.last_steps());
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
    }

    pub(super) fn last_steps(&self) -> &[Step] {
        &self.trace[self.trace.len().saturating_sub(12)..]
    }

    /// The next time at which something happens by itself. Endless restarts of what crashes are
    /// no event once nothing waits for them.
    fn next_event_ms(&self, until_ms: Option<i64>) -> Option<i64> {
        let busy = self.deployments.iter().any(|deployment| !deployment.state.is_terminal());
        let changes = self.containers.iter().filter_map(|(id, (since_ms, container))| {
            let next_ms = self.change_ms(*id, *since_ms, container)?;
            let unready = self.rows.get(id).is_some_and(|row| row.answering.is_none());
            let answers = self.behaviour(*id) == Behaviour::Good;
            let awaited = busy || container.phase == Phase::Starting || (unready && answers);
            (next_ms > self.now_ms && awaited).then_some(next_ms)
        });
        changes.chain(until_ms).min().map(|at_ms| at_ms.max(self.now_ms + 1))
    }

    fn behaviour(&self, id: InstanceId) -> Behaviour {
        self.rows.get(&id).map_or(Behaviour::Good, |row| self.kinds[&row.release].behaviour)
    }

    fn change_ms(&self, id: InstanceId, since_ms: i64, container: &Container) -> Option<i64> {
        let row = self.rows.get(&id)?;
        match container.phase {
            Phase::Starting => Some(since_ms + 20),
            Phase::Exited => None,
            Phase::Waiting => Some(since_ms + 1000),
            Phase::Running if row.role == InstanceRole::Release => Some(since_ms + 500),
            Phase::Running => match self.behaviour(id) {
                Behaviour::Good => Some(since_ms + 400),
                Behaviour::Exits => Some(since_ms + 20),
                Behaviour::Breaks if self.now_ms < since_ms + 400 => Some(since_ms + 400),
                Behaviour::Breaks => Some(since_ms + 3000),
                Behaviour::Mute | Behaviour::Refused => None,
            },
        }
    }

    fn run_host(&mut self) {
        for (id, (since_ms, container)) in self.containers.clone() {
            let Some(at_ms) = self.change_ms(id, since_ms, &container) else { continue };
            if at_ms > self.now_ms {
                continue;
            }
            let row = &self.rows[&id];
            let (phase, attempt, exit_code) = match container.phase {
                Phase::Starting => (Phase::Running, container.attempt, None),
                Phase::Waiting => (Phase::Running, container.attempt + 1, container.exit_code),
                Phase::Exited => continue,
                Phase::Running if row.role == InstanceRole::Release => {
                    (Phase::Exited, container.attempt, self.kinds[&row.release].phase)
                }
                Phase::Running => match self.behaviour(id) {
                    Behaviour::Exits => (Phase::Waiting, container.attempt, Some(1)),
                    Behaviour::Breaks if self.now_ms >= since_ms + 3000 => {
                        (Phase::Waiting, container.attempt, Some(1))
                    }
                    _ => continue,
                },
            };
            let container = Container { phase, attempt, exit_code, ..container };
            self.containers.insert(id, (self.now_ms, container));
        }
    }

    fn check(&mut self) {
        if let Some(served) = &self.served {
            let rows = served.iter().filter_map(|id| self.rows.get(id));
            let releases: BTreeSet<_> = rows.map(|row| row.release).collect();
            if releases.len() > 1 {
                self.violations.push(format!("two releases serve: {releases:?}"));
            }
        }
    }

    /// How many targets of the router answer.
    pub(super) fn serving(&self) -> usize {
        let served = self.served.iter().flatten();
        served
            .filter(|id| self.containers.get(id).is_some_and(|(_, c)| c.phase == Phase::Running))
            .count()
    }

    fn start(&mut self, id: InstanceId) {
        if self.behaviour(id) == Behaviour::Refused {
            let row = self.rows.get_mut(&id).unwrap();
            row.state = InstanceState::Failed;
            row.error = Some("no disk".into());
            row.stopped_at_ms = Some(self.now_ms);
            self.hold_until_ms = self.now_ms + 1000;
            return;
        }
        let address = Some(TargetAddress::Tcp(([10, 0, 0, 1], 5000).into()));
        let container = Container {
            phase: Phase::Starting,
            attempt: 1,
            exit_code: None,
            running_ms: 0,
            address,
        };
        let process = &self.rows[&id].process;
        let holds = |other: &&InstanceId| **other != id && self.rows[*other].process == *process;
        if self.alone.contains(process) && self.containers.keys().any(|other| holds(&other)) {
            self.violations.push(format!("{id} was started beside another one on its volume"));
        }
        let before = self.containers.insert(id, (self.now_ms, container));
        if before.is_some() {
            self.violations.push(format!("{id} was started twice"));
        }
    }

    fn insert(&mut self, template: InstanceRecord) -> InstanceId {
        let id = InstanceId::new(self.at(), self.random());
        let row = InstanceRecord { id, created_at_ms: self.now_ms, ..template };
        self.rows.insert(id, row);
        id
    }

    /// Takes a step; whether it changed anything. `amid` stops it after its row is written.
    fn take(&mut self, step: &Step, amid: bool) -> bool {
        let now_ms = self.now_ms;
        match step {
            Step::Advance(id, to) => self.advance(*id, *to, None),
            Step::FetchLayers(id) => {
                let release = self.deployment(*id).release;
                self.fetched.insert(release);
            }
            Step::StartReleasePhase(id) => {
                let release = self.deployment(*id).release;
                let instance = self.insert(InstanceRecord {
                    deployment: Some(*id),
                    role: InstanceRole::Release,
                    ..row(release, "release", 1)
                });
                *self.phases_started.entry(*id).or_default() += 1;
                if !amid {
                    self.start(instance);
                }
            }
            Step::StartInstance { release, process, slot, deployment } => {
                let instance = self.insert(InstanceRecord {
                    deployment: *deployment,
                    restarts: self.restarts,
                    ..row(*release, process.as_str(), *slot)
                });
                if !amid {
                    self.start(instance);
                }
            }
            Step::Resume(id) => self.start(*id),
            Step::Adopt(id) => {
                let address = self.containers[id].1.address.clone();
                let row = self.rows.get_mut(id).unwrap();
                row.state = InstanceState::Running;
                row.address = address;
            }
            Step::Probe(id) => return self.probe(*id),
            Step::Ready(id) => self.ready(*id),
            Step::Silence(id) => self.rows.get_mut(id).unwrap().answering = None,
            Step::Switch(id) => {
                let (previous, release) = (self.current, self.deployment(*id).release);
                self.current = Some(release);
                self.deployment(*id).previous = previous;
                self.advance(*id, DeploymentState::Switching, None);
            }
            Step::Publish => {
                if amid {
                    return true;
                }
                let rows: Vec<_> = self.rows.values().cloned().collect();
                let targets = targets(self.current, &rows);
                self.served = Some(targets.into_iter().map(|target| target.instance).collect());
            }
            Step::Drain { instance, .. } => {
                let row = self.rows.get_mut(instance).unwrap();
                row.state = InstanceState::Draining;
                row.draining_at_ms = Some(now_ms);
            }
            Step::Stop { instance, ending, .. } => self.stop(*instance, ending, amid),
            Step::FreeAddress(id) => self.rows.get_mut(id).unwrap().address = None,
            Step::Fail(id, failure) => {
                self.failures.push(failure.clone());
                self.advance(*id, DeploymentState::Failed, Some(format!("{failure:?}")));
            }
            Step::RollBack(id, failure) => {
                self.failures.push(failure.clone());
                let previous = self.deployment(*id).previous.unwrap();
                self.advance(*id, DeploymentState::RolledBack, Some(format!("{failure:?}")));
                self.queue(previous, true);
            }
            Step::Wait { .. } => return false,
        }
        true
    }

    fn stop(&mut self, id: InstanceId, ending: &Ending, amid: bool) {
        let alive = |phase| phase != Phase::Exited;
        let dead = self.containers.get(&id).is_none_or(|(_, c)| !alive(c.phase));
        let draining = self.rows[&id].draining_at_ms;
        let late = draining.is_some_and(|since_ms| self.now_ms >= since_ms + 60_000);
        let current = Some(self.rows[&id].release) == self.current;
        let known = self.served.as_ref().map_or(current, |served| served.contains(&id));
        // What never was ready cannot be in a table.
        if known && !dead && !late && self.rows[&id].answering.is_some() {
            self.violations.push(format!("{id} was stopped while the router knew it"));
        }
        self.containers.remove(&id);
        if !amid {
            let row = self.rows.get_mut(&id).unwrap();
            row.state = ending.state;
            row.exit_code = ending.exit_code;
            row.error.clone_from(&ending.error);
            row.stopped_at_ms = Some(self.now_ms);
        }
    }

    /// A probe goes on in the background; it changes something when it succeeds.
    fn probe(&mut self, id: InstanceId) -> bool {
        let Some((since_ms, container)) = self.containers.get(&id) else { return false };
        let answers = matches!(self.behaviour(id), Behaviour::Good | Behaviour::Breaks);
        let ready = answers && container.phase == Phase::Running && self.now_ms >= since_ms + 400;
        if ready {
            self.ready(id);
        }
        ready
    }

    fn ready(&mut self, id: InstanceId) {
        let attempt = self.containers[&id].1.attempt;
        let now_ms = self.now_ms;
        let row = self.rows.get_mut(&id).unwrap();
        row.state = InstanceState::Ready;
        row.answering = Some(attempt);
        row.ready_at_ms.get_or_insert(now_ms);
    }

    fn deployment(&mut self, id: DeploymentId) -> &mut Deployment {
        self.deployments.iter_mut().find(|deployment| deployment.id == id).unwrap()
    }

    fn advance(&mut self, id: DeploymentId, to: DeploymentState, error: Option<String>) {
        let now_ms = self.now_ms;
        let deployment = self.deployment(id);
        let from = deployment.state;
        deployment.state = to;
        deployment.changed_at_ms = now_ms;
        deployment.error = error;
        if !from.may_become(to) {
            self.violations.push(format!("{from:?} became {to:?}"));
        }
    }

    pub(super) fn living(&self, release: ReleaseId) -> usize {
        let rows = self.rows.values();
        rows.filter(|row| row.release == release && !row.state.is_terminal()).count()
    }
}

/// How far a step comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    Never,
    Amid,
    Before,
}

pub(super) fn row(release: ReleaseId, process: &str, slot: u16) -> InstanceRecord {
    InstanceRecord {
        id: InstanceId::new(0, [0; 10]),
        app: AppId::new(0, [0; 10]),
        release,
        deployment: None,
        process: process.parse().unwrap(),
        slot,
        role: InstanceRole::Instance,
        restarts: 0,
        state: InstanceState::Planned,
        address: None,
        answering: None,
        exit_code: None,
        error: None,
        created_at_ms: 0,
        ready_at_ms: None,
        draining_at_ms: None,
        stopped_at_ms: None,
    }
}

/// A release as it is stored, for what only needs its manifest.
pub(super) fn stored(manifest: crate::Manifest) -> Release {
    Release {
        id: ReleaseId::new(0, [0; 10]),
        app: AppId::new(0, [0; 10]),
        number: 1,
        image: Digest::from_sha256([0; 32]),
        manifest,
        config_version: 0,
        commit: String::new(),
        reason: String::new(),
        actor: PrincipalId::new(0, [0; 10]),
        created_at_ms: 0,
    }
}
