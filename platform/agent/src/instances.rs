//! The containers of this data folder as the agent knows them.
//!
//! Each has a run process, which tells every change over its socket; a thread per container
//! listens and writes the change down here, and whoever watches is woken. The truth is with the
//! run processes: an agent that starts again asks them.

mod clear;
mod follow;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_container::{ContainerState, Exit, FailureCode, Role};
use berth_model::{AppId, InstanceId, VolumeId};

use crate::cgroup::Leaf;
use crate::context::IdBlock;
use crate::failure::Failure;
use crate::network::Addresses;
use crate::run_wire::{Report, RunSpec, now_ms};

pub(crate) use clear::{forget, remove_folder};
pub(crate) use follow::{adopt_all, connect, finish, sweep_disks, sweep_leaves, take_over};
use status::Listeners;
pub(crate) use status::{list, logs, watch};

/// A running container, for verbs that work inside it.
#[derive(Debug, Clone)]
pub(crate) struct Inside {
    /// Process 1 of the container, as the host names it. Valid while the container runs: open a
    /// pidfd, and ask again before trusting it.
    pub(crate) init: u32,
    /// Where its processes are.
    pub(crate) leaf: Leaf,
    /// What it is for.
    pub(crate) role: Role,
}

/// What is known of one container.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) spec: Arc<RunSpec>,
    pub(crate) report: Report,
    /// The run process; none before it is heard of and after its end.
    pub(crate) run: Option<Arc<OwnedFd>>,
}

impl Known {
    /// It ended for good and nothing of it is left but its logs.
    pub(crate) fn is_gone(&self) -> bool {
        self.report.state == ContainerState::Exited
    }
}

/// All containers, and their addresses.
#[derive(Debug)]
pub(crate) struct Instances {
    state: Mutex<State>,
    changed: Condvar,
    listeners: Listeners,
}

#[derive(Debug)]
struct State {
    known: BTreeMap<InstanceId, Known>,
    addresses: Addresses,
    generation: u64,
    /// Everything is being stopped: nothing new begins.
    closing: bool,
}

impl State {
    /// The container that has a volume.
    fn holder(&self, volume: VolumeId) -> Option<InstanceId> {
        let has = |known: &&Known| {
            !known.is_gone() && known.spec.volumes.iter().any(|own| own.volume == volume)
        };
        self.known.values().find(has).map(|known| known.spec.instance)
    }
}

impl Instances {
    pub(crate) fn new(addresses: Addresses) -> Self {
        let state = State { known: BTreeMap::new(), addresses, generation: 0, closing: false };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { state, changed, listeners: Listeners::default() }
    }

    fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let outcome = change(&mut state);
        state.generation += 1;
        self.changed.notify_all();
        outcome
    }

    /// Takes the id, and an address for a container that has one. `make` gets the address.
    /// `blocks`: user ids that no other app's container may have at this moment; `volumes`: what no
    /// other container at all may have.
    pub(crate) fn reserve(
        &self,
        instance: InstanceId,
        app: AppId,
        role: Role,
        blocks: [IdBlock; 2],
        volumes: &BTreeSet<VolumeId>,
        make: impl FnOnce(Option<Ipv4Addr>) -> RunSpec,
    ) -> Result<Arc<RunSpec>, Failure> {
        self.change(|state| {
            if state.closing {
                return Err(conflict("everything is being stopped; nothing can be started"));
            }
            if state.known.contains_key(&instance) {
                return Err(conflict(format!("there is a container {instance} already")));
            }
            let builds = |known: &Known| {
                known.spec.app == app && known.spec.role == Role::Build && !known.is_gone()
            };
            if role == Role::Build && state.known.values().any(builds) {
                return Err(conflict(format!("a build of {app} runs; wait for its end")));
            }
            let other = |known: &&Known| {
                known.spec.app != app && blocks.contains(&known.spec.ids) && !known.is_gone()
            };
            if let Some(known) = state.known.values().find(other) {
                let (instance, other) = (known.spec.instance, known.spec.app);
                return Err(conflict(format!(
                    "the user ids asked for {app} are those of {instance}, a container of {other}: \
                     wait for its end"
                )));
            }
            if let Some((volume, other)) =
                volumes.iter().find_map(|volume| Some((volume, state.holder(*volume)?)))
            {
                let message = format!("the volume {volume} is in use by {other}: wait for its end");
                return Err(Failure::new(FailureCode::Limit, message));
            }
            let address = match role {
                Role::Build => None,
                Role::Instance | Role::Run => {
                    let taken = state.addresses.take(instance, now_ms())?;
                    Some(taken.ok_or_else(|| {
                        Failure::new(
                            FailureCode::Limit,
                            "every address of the network is in use or in quarantine",
                        )
                    })?)
                }
            };
            let spec = Arc::new(make(address));
            let report = Report {
                state: ContainerState::Starting,
                attempt: 1,
                last_exit: None,
                started_at_ms: now_ms(),
                init: None,
            };
            let known = Known { spec: Arc::clone(&spec), report, run: None };
            state.known.insert(instance, known);
            Ok(spec)
        })
    }

    /// Takes in a container that another agent started.
    pub(crate) fn adopt(&self, spec: Arc<RunSpec>, report: Report, run: Option<Arc<OwnedFd>>) {
        self.change(|state| {
            state.known.insert(spec.instance, Known { spec, report, run });
        });
    }

    /// Writes down what a run process told.
    pub(crate) fn reported(&self, instance: InstanceId, report: Report) {
        self.change(|state| {
            if let Some(known) = state.known.get_mut(&instance) {
                known.report = report;
            }
        });
    }

    /// Writes down which process holds the container.
    pub(crate) fn held_by(&self, instance: InstanceId, run: Arc<OwnedFd>) {
        self.change(|state| {
            if let Some(known) = state.known.get_mut(&instance) {
                known.run = Some(run);
            }
        });
    }

    /// Writes down that nothing of it is left. Its address goes into quarantine.
    pub(crate) fn gone(&self, instance: InstanceId, exit: Exit) -> Result<(), Failure> {
        self.change(|state| {
            let Some(known) = state.known.get_mut(&instance) else { return Ok(()) };
            known.run = None;
            known.report.state = ContainerState::Exited;
            known.report.init = None;
            known.report.last_exit = Some(exit);
            let known_to_router = known.spec.role == Role::Instance;
            state.addresses.ended(instance, known_to_router, now_ms())
        })
    }

    /// Forgets a container that is gone, or that never came to be.
    pub(crate) fn forget(&self, instance: InstanceId) -> Result<(), Failure> {
        self.change(|state| {
            state.known.remove(&instance);
            state.addresses.ended(instance, false, now_ms())
        })
    }

    /// The router knows the container's address no more.
    pub(crate) fn address_released(&self, instance: InstanceId) -> Result<(), Failure> {
        self.change(|state| state.addresses.released(instance, now_ms()))
    }

    /// Addresses of containers that are gone and not among `live` need no release any more.
    pub(crate) fn keep_addresses(&self, live: impl Fn(InstanceId) -> bool) -> Result<(), Failure> {
        self.change(|state| state.addresses.keep(live, now_ms()))
    }

    /// Nothing new begins from here on.
    pub(crate) fn close(&self) {
        self.change(|state| state.closing = true);
    }

    /// What is known of one container.
    pub(crate) fn get(&self, instance: InstanceId) -> Result<Known, Failure> {
        let known = self.lock().known.get(&instance).cloned();
        known.ok_or_else(|| Failure::not_found(format!("there is no container {instance}")))
    }

    /// The container that has a volume.
    pub(crate) fn holder(&self, volume: VolumeId) -> Option<InstanceId> {
        self.lock().holder(volume)
    }

    /// Does something with a volume that no container has, and that none gets meanwhile.
    pub(crate) fn with_free_volume<T>(
        &self,
        volume: VolumeId,
        act: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let state = self.lock();
        match state.holder(volume) {
            Some(other) => {
                Err(conflict(format!("the volume {volume} is in use by {other}: stop it first")))
            }
            None => act(),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Known> {
        self.lock().known.values().cloned().collect()
    }

    /// A container that runs at this moment.
    pub(crate) fn inside(&self, instance: InstanceId) -> Result<Inside, Failure> {
        let known = self.get(instance)?;
        let init = known
            .report
            .init
            .ok_or_else(|| conflict(format!("the container {instance} does not run")))?;
        let spec = known.spec;
        Ok(Inside { init, leaf: spec.leaf.clone(), role: spec.role })
    }

    /// The number of changes so far.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Waits for a change after `seen`, no longer than until `deadline`.
    pub(crate) fn changed_after(&self, seen: u64, deadline: Instant) -> u64 {
        let mut state = self.lock();
        while state.generation == seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.generation
    }

    /// Waits until `ready` says so of a container, no longer than until `deadline`; what is known
    /// of it then.
    pub(crate) fn wait_until(
        &self,
        instance: InstanceId,
        deadline: Instant,
        ready: impl Fn(&Known) -> bool,
    ) -> Result<Known, Failure> {
        loop {
            let seen = self.generation();
            let known = self.get(instance)?;
            if ready(&known) || Instant::now() >= deadline {
                return Ok(known);
            }
            self.changed_after(seen, deadline);
        }
    }

    /// Addresses of the containers of each app that has more than one.
    pub(crate) fn neighbours(&self) -> Vec<Vec<Ipv4Addr>> {
        let mut groups: BTreeMap<AppId, Vec<Ipv4Addr>> = BTreeMap::new();
        for known in self.lock().known.values().filter(|known| !known.is_gone()) {
            if let Some((address, _)) = known.spec.plug {
                groups.entry(known.spec.app).or_default().push(address);
            }
        }
        groups.into_values().filter(|group| group.len() > 1).collect()
    }

    /// Which container reaches which port of which other app's instance.
    pub(crate) fn links(&self) -> BTreeSet<(Ipv4Addr, Ipv4Addr, u16)> {
        let state = self.lock();
        let present = || state.known.values().filter(|known| !known.is_gone());
        let mut links = BTreeSet::new();
        for from in present() {
            let Some((own, _)) = from.spec.plug else { continue };
            for reach in &from.spec.links {
                let theirs = present().filter(|to| {
                    to.spec.app == reach.app && to.spec.role == berth_container::Role::Instance
                });
                let theirs = theirs.filter_map(|to| to.spec.plug);
                links.extend(theirs.map(|(address, _)| (own, address, reach.port)));
            }
        }
        links
    }
}

fn conflict(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::Conflict, message)
}
