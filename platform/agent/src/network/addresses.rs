//! Which instance has which address, and when an address may be given again.
//!
//! An address of an ended instance waits until the router acknowledged a table without it and
//! the quarantine has passed, so that a late request never reaches another app. Kept in the run
//! folder: what is forgotten with the machine's restart nobody connects to any more.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use berth_model::InstanceId;
use serde::{Deserialize, Serialize};

use crate::failure::{Because, Failure};

/// The first addresses are the uplink's; instances begin here.
const FIRST: u32 = 256;
const LAST: u32 = 65_534;

/// The addresses of a data folder.
#[derive(Debug)]
pub(crate) struct Addresses {
    base: Ipv4Addr,
    quarantine_ms: i64,
    file: PathBuf,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Offset that is tried next: a number comes round only after all others.
    next: u32,
    held: BTreeMap<u32, Hold>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hold {
    instance: InstanceId,
    /// The container is gone.
    ended: bool,
    /// The router knows it no more.
    released: bool,
    /// Unix milliseconds when both became true.
    since_ms: Option<i64>,
}

impl Addresses {
    /// The addresses as they were left in `run`.
    pub(crate) fn open(run: &Path, base: Ipv4Addr, quarantine_ms: i64) -> Self {
        let file = run.join("addresses.json");
        let kept = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { base, quarantine_ms, file, state: kept.unwrap_or_default() }
    }

    /// An address for a new container. `None` when all are held.
    pub(crate) fn take(
        &mut self,
        instance: InstanceId,
        now_ms: i64,
    ) -> Result<Option<Ipv4Addr>, Failure> {
        let quarantine = self.quarantine_ms;
        self.state.held.retain(|_, hold| hold.since_ms.is_none_or(|at| at + quarantine > now_ms));
        let start = self.state.next.clamp(FIRST, LAST);
        let free =
            (start..=LAST).chain(FIRST..start).find(|offset| !self.state.held.contains_key(offset));
        let Some(offset) = free else { return Ok(None) };
        self.state.next = offset + 1;
        let hold = Hold { instance, ended: false, released: false, since_ms: None };
        self.state.held.insert(offset, hold);
        self.save()?;
        Ok(Some(Ipv4Addr::from(u32::from(self.base) + offset)))
    }

    /// The container is gone. `known`: the router may know its address.
    pub(crate) fn ended(
        &mut self,
        instance: InstanceId,
        known: bool,
        now_ms: i64,
    ) -> Result<(), Failure> {
        self.change(instance, now_ms, |hold| {
            hold.ended = true;
            hold.released |= !known;
        })
    }

    /// The router knows the address no more.
    pub(crate) fn released(&mut self, instance: InstanceId, now_ms: i64) -> Result<(), Failure> {
        self.change(instance, now_ms, |hold| hold.released = true)
    }

    /// Nobody remembers instances but these: the others' addresses are released.
    pub(crate) fn keep(
        &mut self,
        live: impl Fn(InstanceId) -> bool,
        now_ms: i64,
    ) -> Result<(), Failure> {
        let forgotten: Vec<InstanceId> = self
            .state
            .held
            .values()
            .filter(|hold| hold.ended && !live(hold.instance))
            .map(|hold| hold.instance)
            .collect();
        forgotten.into_iter().try_for_each(|instance| self.released(instance, now_ms))
    }

    fn change(
        &mut self,
        instance: InstanceId,
        now_ms: i64,
        change: impl FnOnce(&mut Hold),
    ) -> Result<(), Failure> {
        let Some(hold) = self.state.held.values_mut().find(|hold| hold.instance == instance) else {
            return Ok(());
        };
        change(hold);
        if hold.ended && hold.released && hold.since_ms.is_none() {
            hold.since_ms = Some(now_ms);
        }
        self.save()
    }

    fn save(&self) -> Result<(), Failure> {
        let fresh = self.file.with_extension("json.new");
        let text = serde_json::to_vec(&self.state).because(|| "writing the addresses")?;
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &self.file))
            .because(|| format!("writing {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> InstanceId {
        InstanceId::new(number, [0; 10])
    }

    #[test]
    fn an_address_is_not_given_again_before_release_and_quarantine() {
        let run = tempfile::tempdir().unwrap();
        let open = || Addresses::open(run.path(), Ipv4Addr::new(10, 200, 0, 0), 1000);
        let mut addresses = open();
        let first = addresses.take(id(1), 0).unwrap().unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 200, 1, 0));
        addresses.ended(id(1), true, 10).unwrap();
        // An agent that starts again knows as much.
        let mut addresses = open();
        addresses.state.next = FIRST;
        assert_ne!(addresses.take(id(2), 1_000_000).unwrap().unwrap(), first, "not released");
        addresses.released(id(1), 1_000_000).unwrap();
        addresses.state.next = FIRST;
        assert_ne!(addresses.take(id(3), 1_000_999).unwrap().unwrap(), first, "in quarantine");
        addresses.state.next = FIRST;
        assert_eq!(addresses.take(id(4), 1_001_000).unwrap().unwrap(), first);
    }

    #[test]
    fn when_all_are_held_none_is_given() {
        let run = tempfile::tempdir().unwrap();
        let mut addresses = Addresses::open(run.path(), Ipv4Addr::new(10, 200, 0, 0), 0);
        for offset in FIRST..=LAST {
            let hold = Hold { instance: id(1), ended: false, released: false, since_ms: None };
            addresses.state.held.insert(offset, hold);
        }
        assert_eq!(addresses.take(id(2), 0).unwrap(), None);
    }
}
