//! A deployment's way from queued to its end.

use std::collections::BTreeMap;

use super::planner::Planner;
use super::{Ending, Failure, Phase, Rollout, Step};
use crate::{DeploymentState, InstanceId, InstanceRole, InstanceState, ProcessName};

impl Planner<'_> {
    pub(super) fn deploy(&mut self, rollout: &Rollout) {
        match rollout.deployment.state {
            DeploymentState::Queued | DeploymentState::Fetching | DeploymentState::Releasing => {
                self.prepare(rollout);
            }
            DeploymentState::Starting | DeploymentState::Checking => self.bring(rollout),
            DeploymentState::Switching => {
                if self.is_published() {
                    self.advance(rollout, DeploymentState::Monitoring);
                }
            }
            DeploymentState::Monitoring => self.watch(rollout),
            DeploymentState::Done
            | DeploymentState::Failed
            | DeploymentState::Superseded
            | DeploymentState::RolledBack => {}
        }
    }

    fn advance(&mut self, rollout: &Rollout, to: DeploymentState) {
        self.steps.push(Step::Advance(rollout.deployment.id, to));
    }

    /// Ends the deployment. Before the switch no table had its instances: they need no drain.
    fn fail(&mut self, rollout: &Rollout, failure: Failure) {
        let deployment = &rollout.deployment;
        self.steps.push(Step::Fail(deployment.id, failure));
        let serves = |release| {
            self.wanted.current.as_ref().is_some_and(|current| current.release == release)
        };
        if deployment.state < DeploymentState::Switching && !serves(deployment.release) {
            let own: Vec<_> = self
                .seen()
                .filter(|seen| seen.is_instance() && seen.row.deployment == Some(deployment.id))
                .filter(|seen| seen.row.release == deployment.release)
                .filter(|seen| !seen.row.state.is_terminal())
                .collect();
            for seen in own {
                self.stop(seen, Ending::stopped());
            }
        }
    }

    /// Whether `limit_ms` have passed since the deployment came to its state, as far as somebody
    /// looked.
    fn is_over(&mut self, rollout: &Rollout, limit_ms: u32) -> bool {
        let now_ms = self.observed.now_ms;
        let since_ms = rollout.deployment.changed_at_ms.max(self.observed.began_ms);
        let end_ms = since_ms.min(now_ms) + i64::from(limit_ms);
        if now_ms < end_ms {
            self.wake(end_ms);
        }
        now_ms >= end_ms
    }

    /// Layers, then the release phase. States with nothing to do are passed over.
    fn prepare(&mut self, rollout: &Rollout) {
        let state = rollout.deployment.state;
        if !self.observed.fetched && !rollout.formation.wasm && state < DeploymentState::Releasing {
            if state == DeploymentState::Queued {
                self.advance(rollout, DeploymentState::Fetching);
                self.steps.push(Step::FetchLayers(rollout.deployment.id));
            } else if let Some(error) = &self.observed.fetch_error {
                self.fail(rollout, Failure::Fetch(error.clone()));
            } else if self.is_over(rollout, self.wanted.timeouts.fetch_ms_max) {
                let error = "it took longer than the time allowed".to_owned();
                self.fail(rollout, Failure::Fetch(error));
            } else {
                self.steps.push(Step::FetchLayers(rollout.deployment.id));
            }
        } else if rollout.formation.phase && !rollout.deployment.rollback {
            if state == DeploymentState::Releasing {
                self.release_phase(rollout);
            } else {
                self.advance(rollout, DeploymentState::Releasing);
            }
        } else {
            self.advance(rollout, DeploymentState::Starting);
        }
    }

    /// Runs the release phase at most once: its row is written before it starts, and a row whose
    /// container is not there means that it may have run.
    fn release_phase(&mut self, rollout: &Rollout) {
        let id = rollout.deployment.id;
        let run = self
            .seen()
            .find(|seen| seen.row.role == InstanceRole::Release && seen.row.deployment == Some(id));
        let Some(run) = run else {
            self.steps.push(Step::StartReleasePhase(id));
            return;
        };
        let row = run.row;
        match (row.state, run.container) {
            (InstanceState::Stopped, _) if row.exit_code == Some(0) => {
                self.advance(rollout, DeploymentState::Starting);
            }
            (InstanceState::Stopped | InstanceState::Failed, _) => {
                self.fail(rollout, Failure::ReleasePhase(row.id));
            }
            // Its end is being written down.
            _ if run.ending => {}
            (_, None) => {
                self.stop(run, run.ending());
                self.fail(rollout, Failure::ReleasePhaseLost(row.id));
            }
            (_, Some(container)) if container.phase == Phase::Exited => {
                self.stop(run, run.ending_of_command());
            }
            (state, Some(_)) => {
                if state < InstanceState::Running {
                    self.steps.push(Step::Adopt(row.id));
                }
                // The host ends it in time; this is for a host that does not.
                let limit_ms = self.wanted.timeouts.release_phase_ms_max;
                if self.is_over(rollout, limit_ms.saturating_add(self.wanted.timeouts.stop_ms_max))
                {
                    let error = Some("it ran longer than the time allowed".to_owned());
                    let ending = Ending { state: InstanceState::Failed, exit_code: None, error };
                    self.stop(run, ending);
                }
            }
        }
    }

    /// Waits until the new instances are ready, then switches.
    fn bring(&mut self, rollout: &Rollout) {
        let formation = &rollout.formation;
        if let Some(failure) = self.too_many_exits(rollout) {
            self.fail(rollout, failure);
        } else if rollout.deployment.state == DeploymentState::Starting {
            let mut started: BTreeMap<&ProcessName, usize> = BTreeMap::new();
            for seen in self.seen().filter(|seen| {
                seen.is_instance() && seen.is_web() && seen.row.release == formation.release
            }) {
                if seen.is_alive() && seen.row.state >= InstanceState::Running {
                    *started.entry(&seen.row.process).or_default() += 1;
                }
            }
            let all = formation.processes.iter().all(|(process, count)| {
                process.as_str() != super::WEB
                    || started.get(process).copied().unwrap_or(0) >= self.count(process, *count)
            });
            if all {
                self.advance(rollout, DeploymentState::Checking);
            } else if self
                .is_over(rollout, self.with_room(rollout, self.wanted.timeouts.start_ms_max))
            {
                self.fail(rollout, Failure::StartDeadline);
            }
        } else if self.all_ready(formation, false) {
            self.steps.push(Step::Switch(rollout.deployment.id));
        } else if self.is_over(rollout, self.with_room(rollout, self.wanted.timeouts.check_ms_max))
        {
            let late: Vec<InstanceId> = self
                .seen()
                .filter(|seen| seen.is_instance() && seen.row.release == formation.release)
                .filter(|seen| seen.is_alive() && !seen.is_ready())
                .map(|seen| seen.row.id)
                .collect();
            self.fail(rollout, Failure::NotReady(late));
        }
    }

    /// The slot whose process ended too often in this deployment, by its last instance.
    fn too_many_exits(&self, rollout: &Rollout) -> Option<Failure> {
        let mut slots: BTreeMap<(&ProcessName, u16), (u32, InstanceId, bool)> = BTreeMap::new();
        let own = |deployment| deployment == Some(rollout.deployment.id);
        for seen in self.seen().filter(|seen| seen.is_instance() && own(seen.row.deployment)) {
            let entry = (&seen.row.process, seen.row.slot);
            let (exits, last, ran) = slots.entry(entry).or_insert((0, seen.row.id, false));
            *exits += seen.exits();
            if seen.row.id >= *last {
                *last = seen.row.id;
                *ran = seen.container.is_some() || seen.row.exit_code.is_some();
            }
        }
        slots.into_values().find(|(exits, ..)| *exits >= self.wanted.timeouts.exits_max).map(
            |(_, last, ran)| if ran { Failure::Exited(last) } else { Failure::NotStarted(last) },
        )
    }

    /// The watch after the switch. One end of a web instance fails it; a worker has its tries.
    fn watch(&mut self, rollout: &Rollout) {
        let deployment = &rollout.deployment;
        let ended = self.seen().find(|seen| {
            seen.is_instance()
                && seen.is_web()
                && seen.row.deployment == Some(deployment.id)
                && match seen.row.state {
                    InstanceState::Ready => !seen.answers() && !seen.wasm,
                    InstanceState::Failed => {
                        seen.row.ready_at_ms.is_some()
                            && seen.row.stopped_at_ms >= Some(deployment.changed_at_ms)
                    }
                    _ => false,
                }
        });
        let failure = ended.map(|seen| Failure::Watch(seen.row.id));
        if let Some(failure) = failure.or_else(|| self.too_many_exits(rollout)) {
            let back = deployment.previous.is_some_and(|release| release != deployment.release);
            if back && !deployment.rollback && !self.wanted.stopped {
                self.steps.push(Step::RollBack(deployment.id, failure));
            } else {
                self.fail(rollout, failure);
            }
        } else {
            // A newer deployment does not wait for the end of the watch.
            let next = self.wanted.deployments.iter().any(|other| {
                other.deployment.state == DeploymentState::Queued
                    && other.deployment.id != deployment.id
            });
            if next || self.is_over(rollout, self.wanted.timeouts.monitor_ms) {
                self.advance(rollout, DeploymentState::Done);
            }
        }
    }
}
