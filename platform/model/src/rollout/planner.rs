//! The planner over one app: keeps what is wanted, retires what is not, publishes what serves.

use std::collections::BTreeSet;

use super::seen::Seen;
use super::{Ending, Formation, Observed, Phase, Rollout, Step, Wanted, targets};
use crate::{
    DeploymentId, DeploymentState, InstanceId, InstanceRole, InstanceState, ProcessName, ReleaseId,
};

pub(super) struct Planner<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) observed: &'a Observed,
    seen: Vec<Seen<'a>>,
    /// Instances that are not needed any more.
    retired: BTreeSet<InstanceId>,
    pub(super) steps: Vec<Step>,
    wake_ms: Option<i64>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(wanted: &'a Wanted, observed: &'a Observed) -> Self {
        let formations = || {
            let deployed = wanted.deployments.iter().map(|rollout| &rollout.formation);
            wanted.current.iter().chain(deployed)
        };
        let seen = observed.instances.iter().map(|row| Seen {
            row,
            container: observed.containers.get(&row.id),
            ending: observed.ending.contains(&row.id),
            wasm: formations().any(|formation| formation.release == row.release && formation.wasm),
        });
        Self {
            wanted,
            observed,
            seen: seen.collect(),
            retired: BTreeSet::new(),
            steps: Vec::new(),
            wake_ms: None,
        }
    }

    pub(super) fn plan(mut self) -> Vec<Step> {
        let active = self.active();
        let bringing = active.filter(|rollout| {
            matches!(
                rollout.deployment.state,
                DeploymentState::Starting | DeploymentState::Checking
            )
        });
        let taken_over = self.taken_over(bringing);
        // A deployment of the release that serves already only has to wait for it.
        if let Some(current) = &self.wanted.current
            && bringing.is_none_or(|rollout| rollout.formation.release != current.release)
        {
            self.fill(current, None, &taken_over);
        }
        if let Some(rollout) = bringing {
            let others = self.in_the_way(&taken_over, rollout.formation.release);
            self.retired.extend(others);
            self.fill(&rollout.formation, Some(rollout.deployment.id), &[]);
        }
        for seen in self.seen.clone() {
            self.look_after(seen, active);
        }
        self.publish();
        if let Some(rollout) = active {
            self.deploy(rollout);
        }
        if let Some(until_ms) = self.wake_ms {
            self.steps.push(Step::Wait { until_ms });
        }
        self.steps
    }

    /// The deployment whose turn it is. Of those that wait only the newest is kept; an automatic
    /// rollback goes first, because what serves is broken.
    fn active(&mut self) -> Option<&'a Rollout> {
        let deployments = &self.wanted.deployments;
        let state = |rollout: &Rollout| rollout.deployment.state;
        let newest = deployments.iter().rfind(|rollout| state(rollout) == DeploymentState::Queued);
        let newest = newest.map(|rollout| rollout.deployment.id);
        let waits = |rollout: &&Rollout| {
            state(rollout) == DeploymentState::Queued
                && Some(rollout.deployment.id) != newest
                && !rollout.deployment.rollback
        };
        for rollout in deployments.iter().filter(waits) {
            let superseded = Step::Advance(rollout.deployment.id, DeploymentState::Superseded);
            self.steps.push(superseded);
        }
        deployments
            .iter()
            .find(|rollout| state(rollout) != DeploymentState::Queued)
            .or_else(|| deployments.iter().find(|rollout| !waits(rollout)))
    }

    /// Whether instances of `release` are kept without being counted.
    fn keeps(&self, release: ReleaseId, active: Option<&Rollout>) -> bool {
        let current = self.wanted.current.as_ref().map(|formation| formation.release);
        let previous = active
            .map(|rollout| &rollout.deployment)
            // What an automatic rollback replaced is known to be broken.
            .filter(|deployment| !deployment.state.is_terminal() && !deployment.rollback)
            .and_then(|deployment| deployment.previous)
            .filter(|_| !self.wanted.stopped);
        current == Some(release)
            || previous == Some(release)
            || self.wanted.deployments.iter().any(|rollout| rollout.formation.release == release)
    }

    pub(super) fn seen(&self) -> impl Iterator<Item = Seen<'a>> + '_ {
        self.seen.iter().copied()
    }

    pub(super) fn count(&self, process: &ProcessName, count: u16) -> usize {
        let most = if self.wanted.alone.contains(process) { 1 } else { u16::MAX };
        if self.wanted.stopped { 0 } else { usize::from(count.min(most)) }
    }

    /// Whether every wanted instance of the chosen processes is ready.
    pub(super) fn all_ready(&self, formation: &Formation, only_web: bool) -> bool {
        formation.processes.iter().all(|(process, count)| {
            let ready = self.seen().filter(|seen| {
                seen.is_instance()
                    && seen.row.release == formation.release
                    && seen.row.process == *process
                    && seen.is_alive()
                    && seen.is_ready()
            });
            (only_web && process.as_str() != super::WEB)
                || ready.count() >= self.count(process, *count)
        })
    }

    /// Starts what is missing of a formation and retires what is too much. A ready instance is
    /// retired only when the ones that take its place are ready, but for one that is alone: it makes
    /// room for its successor. Leaves out the processes of `but`.
    fn fill(
        &mut self,
        formation: &Formation,
        deployment: Option<DeploymentId>,
        but: &[ProcessName],
    ) {
        let web_ready = self.all_ready(formation, true);
        for (process, count) in
            formation.processes.iter().filter(|(process, _)| !but.contains(process))
        {
            let count = self.count(process, *count);
            let mut alive: Vec<Seen<'_>> = self
                .seen()
                .filter(|seen| seen.is_instance() && seen.is_alive())
                .filter(|seen| {
                    seen.row.release == formation.release && seen.row.process == *process
                })
                .collect();
            alive.sort_by_key(|seen| {
                (!seen.is_ready(), std::cmp::Reverse(seen.row.state), seen.row.id)
            });
            let mut slots = BTreeSet::new();
            let (kept, extra): (Vec<_>, Vec<_>) = alive.into_iter().partition(|seen| {
                let slot = usize::from(seen.row.slot);
                seen.row.restarts >= self.wanted.restarts
                    && (1..=count).contains(&slot)
                    && slots.insert(slot)
            });
            let kept_ready = kept.iter().filter(|seen| seen.is_ready()).count();
            // `extra` has the ready ones first: they stand in for those that are not ready yet.
            let alone = self.is_alone(process);
            let stand_ins = if alone { 0 } else { count.saturating_sub(kept_ready) };
            let retired = extra
                .iter()
                .enumerate()
                .filter(|(index, seen)| *index >= stand_ins || !seen.is_ready())
                .map(|(_, seen)| seen.row.id);
            self.retired.extend(retired);
            // Workers of a new release wait until its web instances have shown that it works.
            if deployment.is_some() && process.as_str() != super::WEB && !web_ready {
                continue;
            }
            if alone && self.is_held(process) {
                continue;
            }
            for slot in (1..=count).filter(|slot| !slots.contains(slot)) {
                if self.observed.now_ms < self.observed.hold_until_ms {
                    self.wake(self.observed.hold_until_ms);
                    break;
                }
                self.steps.push(Step::StartInstance {
                    release: formation.release,
                    process: process.clone(),
                    slot: u16::try_from(slot).unwrap_or(u16::MAX),
                    deployment,
                });
            }
        }
    }

    fn look_after(&mut self, seen: Seen<'_>, active: Option<&Rollout>) {
        let row = seen.row;
        if seen.ending {
            return;
        }
        if row.state.is_terminal() {
            self.clear(seen);
            return;
        }
        match row.role {
            InstanceRole::Instance if row.state == InstanceState::Draining => self.drain(seen),
            InstanceRole::Instance => {
                let unwanted = self.retired.contains(&row.id) || !self.keeps(row.release, active);
                if seen.is_dead() {
                    self.stop(seen, seen.ending());
                } else if unwanted {
                    self.retire(seen);
                } else {
                    self.follow(seen);
                }
            }
            InstanceRole::Release => {
                let own = |rollout: &Rollout| Some(rollout.deployment.id) == row.deployment;
                if !active.is_some_and(own) {
                    self.stop(seen, seen.ending_of_command());
                }
            }
            InstanceRole::Run | InstanceRole::Detached => self.one_off(seen),
        }
    }

    /// Nothing of an instance that ended is kept: its container, then its address.
    fn clear(&mut self, seen: Seen<'_>) {
        let row = seen.row;
        let served = &self.observed.served;
        let left = served.as_ref().is_some_and(|served| !served.contains(&row.id));
        if seen.container.is_some() {
            let (exit_code, error) = (row.exit_code, row.error.clone());
            self.stop(seen, Ending { state: row.state, exit_code, error });
        } else if row.address.is_some() && left {
            self.steps.push(Step::FreeAddress(row.id));
        }
    }

    /// Brings the row of an instance that is wanted to what its host tells.
    fn follow(&mut self, seen: Seen<'_>) {
        let row = seen.row;
        let Some(container) = seen.container else {
            self.steps.push(Step::Resume(row.id));
            return;
        };
        if container.phase == Phase::Starting {
            return;
        }
        if row.state < InstanceState::Running {
            self.steps.push(Step::Adopt(row.id));
        } else if seen.is_web() {
            if seen.answers() {
            } else if row.answering.is_some() {
                self.steps.push(Step::Silence(row.id));
            } else if container.phase == Phase::Running {
                self.steps.push(Step::Probe(row.id));
            }
        } else if row.state == InstanceState::Running && container.phase == Phase::Running {
            let rest_ms = i64::from(self.wanted.timeouts.alive_ms)
                - i64::try_from(container.running_ms).unwrap_or(i64::MAX);
            if rest_ms <= 0 {
                self.steps.push(Step::Ready(row.id));
            } else {
                self.wake(self.observed.now_ms + rest_ms);
            }
        }
    }

    /// Takes an instance out of service: out of the table first, if the router may know it.
    fn retire(&mut self, seen: Seen<'_>) {
        let row = seen.row;
        let served = &self.observed.served;
        let known = served.as_ref().is_none_or(|served| served.contains(&row.id))
            || row.answering.is_some();
        if seen.is_web() && row.state == InstanceState::Ready && known {
            let until_ms = self.observed.now_ms + i64::from(self.wanted.timeouts.drain_ms_max);
            self.steps.push(Step::Drain { instance: row.id, until_ms });
        } else {
            self.stop(seen, Ending::stopped());
        }
    }

    /// Stops a draining instance once no table has it and nothing is in flight. A router that does
    /// not answer cannot hold it for ever: twice the drain time is the limit.
    fn drain(&mut self, seen: Seen<'_>) {
        let limit_ms = i64::from(self.wanted.timeouts.drain_ms_max);
        let now_ms = self.observed.now_ms;
        let since_ms = seen.row.draining_at_ms.unwrap_or(now_ms).min(now_ms);
        let left =
            self.observed.served.as_ref().is_some_and(|served| !served.contains(&seen.row.id));
        let empty = self.observed.drained.contains(&seen.row.id) || now_ms >= since_ms + limit_ms;
        if seen.is_dead() || (left && empty) || now_ms >= since_ms + 2 * limit_ms {
            self.stop(seen, Ending::stopped());
        } else {
            self.wake(if left { since_ms + limit_ms } else { since_ms + 2 * limit_ms });
        }
    }

    /// A one-off command: this process's sessions look after their own; what a former process
    /// left goes on when it is detached, and ends when its client is gone.
    fn one_off(&mut self, seen: Seen<'_>) {
        let row = seen.row;
        if self.observed.held.contains(&row.id) {
            return;
        }
        let ended = seen.container.is_none_or(|container| container.phase == Phase::Exited);
        if ended || row.role == InstanceRole::Run {
            self.stop(seen, seen.ending_of_command());
        } else if row.state < InstanceState::Running {
            self.steps.push(Step::Adopt(row.id));
        }
    }

    fn publish(&mut self) {
        let current = self.wanted.current.as_ref().map(|formation| formation.release);
        let targets = targets(current, &self.observed.instances);
        let targets: BTreeSet<_> = targets.into_iter().map(|target| target.instance).collect();
        if self.observed.served.as_ref() != Some(&targets) {
            self.steps.push(Step::Publish);
        }
    }

    pub(super) fn is_published(&self) -> bool {
        !self.steps.contains(&Step::Publish)
    }

    pub(super) fn stop(&mut self, seen: Seen<'_>, ending: Ending) {
        let grace_ms = self.wanted.timeouts.stop_ms_max;
        self.steps.push(Step::Stop { instance: seen.row.id, grace_ms, ending });
    }

    pub(super) fn wake(&mut self, at_ms: i64) {
        self.wake_ms = Some(self.wake_ms.map_or(at_ms, |wake_ms| wake_ms.min(at_ms)));
    }
}
