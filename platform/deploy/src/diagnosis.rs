//! Why a deployment failed, in words that say what to do.
//!
//! Takes the planner's failure and asks the host for what only it knows: how a process ended, on
//! which addresses it listens, its last lines. Never fails itself: what cannot be found out is
//! left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;

use berth_container::{APP_PORT, ContainerState, Exit, InstanceStatus};
use berth_model::rollout::{Failure, Timeouts};
use berth_model::{App, InstanceId, InstanceRecord, Limits};

use crate::drivers::Embedded;
use crate::logs;
use crate::probe::LastProbe;

/// Log lines that a failure shows.
const LINES_MAX: usize = 30;

/// A failure explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// The reason: one line each; the first is stored with the deployment.
    pub(crate) reasons: Vec<String>,
    /// Whose last lines, and the lines.
    pub(crate) tail: Option<(String, Vec<String>)>,
}

/// What the diagnosis looks at.
pub(crate) struct Case<'a> {
    pub(crate) app: &'a App,
    pub(crate) instances: &'a [InstanceRecord],
    pub(crate) timeouts: Timeouts,
    /// Why the last probe of an instance failed.
    pub(crate) probes: BTreeMap<InstanceId, String>,
}

impl Case<'_> {
    pub(crate) async fn explain(&self, embedded: &Embedded, failure: &Failure) -> Diagnosis {
        let statuses = embedded.statuses().await.ok();
        let status = |id: InstanceId| {
            statuses.iter().flat_map(|all| all.iter()).find(|status| status.instance == id)
        };
        let mut shown = None;
        let reasons = match failure {
            Failure::Fetch(error) => {
                vec![format!("the image could not be brought to the host: {error}")]
            }
            Failure::ReleasePhase(id) => {
                shown = Some(*id);
                vec![self.phase(*id)]
            }
            Failure::ReleasePhaseLost(_) => vec![
                "the release phase was started and its end is not known; it is not run a second \
                 time: look whether it did its work, then deploy again"
                    .to_owned(),
            ],
            Failure::NotStarted(id) => {
                let error = self.row(*id).and_then(|row| row.error.clone());
                let error = error.unwrap_or_else(|| "the host did not say why".to_owned());
                vec![format!("{} could not be started: {error}", self.label(*id))]
            }
            Failure::Exited(id) | Failure::Watch(id) => {
                shown = Some(*id);
                vec![self.ended(*id, status(*id), matches!(failure, Failure::Watch(_)))]
            }
            Failure::StartDeadline => {
                let limit_s = self.timeouts.start_ms_max / 1000;
                vec![format!("the instances could not be started within {limit_s} s")]
            }
            Failure::NotReady(late) if late.is_empty() => {
                let limit_s = self.timeouts.check_ms_max / 1000;
                vec![format!("the instances could not be kept running within {limit_s} s")]
            }
            Failure::NotReady(late) => {
                shown = late.first().copied();
                late.iter().map(|id| self.not_ready(*id, status(*id))).collect()
            }
        };
        let tail = match shown {
            Some(id) => logs::tail(embedded, id, LINES_MAX).await.ok().map(|l| (self.label(id), l)),
            None => None,
        };
        Diagnosis { reasons, tail }
    }

    fn row(&self, id: InstanceId) -> Option<&InstanceRecord> {
        self.instances.iter().find(|row| row.id == id)
    }

    fn label(&self, id: InstanceId) -> String {
        self.row(id).map_or_else(|| id.to_string(), InstanceRecord::label)
    }

    fn limits(&self, id: InstanceId) -> Limits {
        let process = self.row(id).map(|row| &row.process);
        process.and_then(|name| self.app.settings.limits.get(name)).copied().unwrap_or_default()
    }

    fn phase(&self, id: InstanceId) -> String {
        let row = self.row(id);
        match row.and_then(|row| row.exit_code) {
            Some(code) => format!("the release phase ended with exit code {code}"),
            None => {
                let error =
                    row.and_then(|row| row.error.as_deref()).unwrap_or("no reason is known");
                format!("the release phase failed: {error}")
            }
        }
    }

    fn ended(&self, id: InstanceId, status: Option<&InstanceStatus>, watched: bool) -> String {
        let label = self.label(id);
        let when = if watched { " while it was watched after the switch" } else { "" };
        match status.and_then(|status| Some((exits(status), status.last_exit.as_ref()?))) {
            Some((exits, exit)) => {
                let times =
                    if exits > 1 && !watched { format!(" ({exits} times)") } else { String::new() };
                format!("{label} {}{times}{when}", how(exit, self.limits(id)))
            }
            None => {
                let error = self.row(id).and_then(|row| row.error.as_deref());
                format!("{label} ended{when}: {}", error.unwrap_or("nothing is known of how"))
            }
        }
    }

    fn not_ready(&self, id: InstanceId, status: Option<&InstanceStatus>) -> String {
        let label = self.label(id);
        // It tried and ended: its exit says more than its closed port.
        if status.is_some_and(|status| status.last_exit.is_some()) {
            return self.ended(id, status, false);
        }
        let limit_s = self.timeouts.check_ms_max / 1000;
        let web = self.row(id).is_some_and(|row| row.process.as_str() == "web");
        if !web {
            return format!("{label} did not keep running within {limit_s} s");
        }
        let listening = status.map_or(&[][..], |status| &status.listening);
        if let Some(wrong) = elsewhere(listening) {
            return format!("{label} did not open port {APP_PORT} within {limit_s} s: {wrong}");
        }
        match self.probes.get(&id) {
            Some(probe) => format!("{label} was not ready within {limit_s} s: {probe}"),
            None => format!("{label} was not ready within {limit_s} s"),
        }
    }
}

/// Why an instance is not ready yet, as far as can be seen.
pub(crate) async fn not_yet(embedded: &Embedded, id: InstanceId, last: &LastProbe) -> String {
    let statuses = embedded.statuses().await.unwrap_or_default();
    let status = statuses.iter().find(|status| status.instance == id);
    let seen = status.and_then(|status| elsewhere(&status.listening));
    let probed = || last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    seen.or_else(probed).unwrap_or_else(|| "it does not answer".to_owned())
}

/// How often its process ended.
fn exits(status: &InstanceStatus) -> u32 {
    let ended = matches!(status.state, ContainerState::Waiting | ContainerState::Exited);
    status.attempt.saturating_sub(1) + u32::from(ended)
}

/// How a process ended.
fn how(exit: &Exit, limits: Limits) -> String {
    if exit.oom {
        let limit = limits.memory_mib;
        let used = match exit.memory_peak_bytes >> 20 {
            0 => String::new(),
            peak => format!(" (it used {peak} MiB)"),
        };
        return format!("was ended for its memory{used}: its limit is {limit} MiB");
    }
    match exit.code {
        code @ 129..=192 => format!("was ended by signal {}", code - 128),
        code => format!("ended with exit code {code}"),
    }
}

/// Where an app listens instead of where it should; nothing when the port is open to the router.
fn elsewhere(listening: &[SocketAddr]) -> Option<String> {
    let open = |address: &&SocketAddr| !address.ip().is_loopback();
    if listening.iter().filter(open).any(|address| address.port() == APP_PORT) {
        return None;
    }
    let mut all: Vec<_> = listening.iter().map(ToString::to_string).collect();
    all.sort();
    all.dedup();
    all.truncate(8);
    let all = all.join(", ");
    if listening.is_empty() {
        return Some(format!(
            "it listens on no port; start a server on 0.0.0.0:{APP_PORT} (environment variable PORT)"
        ));
    }
    if listening.iter().any(|address| address.port() == APP_PORT) {
        return Some(format!(
            "it listens on {all}, where only the container itself can reach it; \
             listen on 0.0.0.0 instead of 127.0.0.1"
        ));
    }
    Some(format!("it listens on {all} instead; use the port in the environment variable PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_reason_names_where_the_app_listens_and_what_to_do() {
        for (listening, expected) in [
            (&[][..], "it listens on no port"),
            (&["0.0.0.0:8000"], "it listens on 0.0.0.0:8000 instead; use the port"),
            (&["127.0.0.1:5000", "127.0.0.1:5000"], "it listens on 127.0.0.1:5000, where only"),
            (&["[::1]:5000"], "listen on 0.0.0.0"),
        ] {
            let reason = elsewhere(&addresses(listening)).unwrap();
            assert!(reason.contains(expected), "{listening:?}: {reason}");
        }
        for open in ["0.0.0.0:5000", "[::]:5000", "10.200.0.7:5000"] {
            assert_eq!(elsewhere(&addresses(&["127.0.0.1:9", open])), None);
        }
    }

    #[test]
    fn an_end_is_told_by_code_signal_or_memory() {
        let exit = Exit { code: 1, oom: false, timed_out: false, memory_peak_bytes: 0 };
        let limits = Limits::default();
        assert_eq!(how(&exit, limits), "ended with exit code 1");
        assert_eq!(how(&Exit { code: 139, ..exit.clone() }, limits), "was ended by signal 11");
        let oom = Exit { code: 137, oom: true, memory_peak_bytes: 511 << 20, ..exit };
        let text = how(&oom, limits);
        assert_eq!(text, "was ended for its memory (it used 511 MiB): its limit is 512 MiB");
    }
}
