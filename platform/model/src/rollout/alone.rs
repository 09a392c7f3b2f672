//! Processes that mount a volume: never two instances of one at a time.

use super::planner::Planner;
use super::{Formation, Rollout, Timeouts};
use crate::{InstanceId, ProcessName, ReleaseId};

impl Planner<'_> {
    pub(super) fn is_alone(&self, process: &ProcessName) -> bool {
        self.wanted.alone.contains(process)
    }

    /// Whether an instance of the process, of whatever release, may still hold its volume.
    pub(super) fn is_held(&self, process: &ProcessName) -> bool {
        self.seen().any(|seen| {
            seen.is_instance()
                && seen.row.process == *process
                && (!seen.row.state.is_terminal() || seen.container.is_some())
        })
    }

    /// The processes whose volume a deployment takes over from the release that serves. Others
    /// than the web process go on until the new web instances have shown that they work.
    pub(super) fn taken_over(&self, bringing: Option<&Rollout>) -> Vec<ProcessName> {
        let Some(rollout) = bringing else { return Vec::new() };
        let formation: &Formation = &rollout.formation;
        let web_ready = self.all_ready(formation, true);
        let own = formation.processes.iter().filter(|(process, count)| {
            self.is_alone(process)
                && self.count(process, **count) > 0
                && (process.as_str() == super::WEB || web_ready)
        });
        own.map(|(process, _)| process.clone()).collect()
    }

    /// A deadline of a deployment, and the time that the old instances may take to make room.
    pub(super) fn with_room(&self, rollout: &Rollout, limit_ms: u32) -> u32 {
        let Timeouts { drain_ms_max, stop_ms_max, .. } = self.wanted.timeouts;
        if rollout.formation.processes.keys().any(|process| self.is_alone(process)) {
            limit_ms.saturating_add(drain_ms_max).saturating_add(stop_ms_max)
        } else {
            limit_ms
        }
    }

    /// Instances of these processes that are not of `release`: they make room.
    pub(super) fn in_the_way(
        &self,
        processes: &[ProcessName],
        release: ReleaseId,
    ) -> Vec<InstanceId> {
        let others = self.seen().filter(|seen| {
            seen.is_instance()
                && processes.contains(&seen.row.process)
                && seen.row.release != release
                && !seen.row.state.is_terminal()
        });
        others.map(|seen| seen.row.id).collect()
    }
}
