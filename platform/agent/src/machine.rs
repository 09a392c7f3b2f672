//! The machine's registry: which data folder has which index.
//!
//! Several platforms and parallel tests live on one machine. The index gives a data folder its
//! range of user ids, its /16 and its interface name. The registry is root's, under a lock; an
//! entry whose data folder is gone, or is another one now, is collected.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_container::{FailureCode, Ids};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::context::BLOCK_IDS;
use crate::failure::{Because, Failure};

const FOLDER: &str = "/var/lib/berth-machine";
/// First user id of index 0: above the ids of people, services and the usual subordinate ranges.
const UID_FIRST: u32 = 0x2000_0000;
/// User ids of one index: 2048 blocks.
const UID_RANGE: u32 = 2048 * BLOCK_IDS;
/// Indices that fit below the last user id.
const INDICES: u8 = 24;
/// Two blocks belong to the platform, two to each app.
const APP_BLOCKS: u16 = 1023;

/// What an index gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) index: u8,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Registry {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    index: u8,
    data: PathBuf,
}

impl Share {
    /// First host user id of the range.
    pub(crate) fn uid_base(self) -> u32 {
        UID_FIRST + u32::from(self.index) * UID_RANGE
    }

    /// Ids of the platform's own processes: in block 0.
    pub(crate) fn ids(self) -> Ids {
        let base = self.uid_base();
        Ids {
            control: base + 1,
            route: base + 2,
            wasm: base + 3,
            tool: base + 4,
            blocks: APP_BLOCKS,
        }
    }

    /// First address of the /16.
    pub(crate) fn network(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 200 + self.index, 0, 0)
    }

    /// The host's end of the uplink.
    pub(crate) fn interface(self) -> String {
        interface(self.index)
    }
}

fn interface(index: u8) -> String {
    format!("berth{index}")
}

/// The share of the data folder `data` with the id `data_id`, the same at each call while the
/// folder exists. `collect` clears away what a data folder that is gone left on the machine; where
/// it fails, the entry stays for the next time.
pub(crate) fn share(
    data_id: &str,
    data: &Path,
    collect: impl Fn(&str, Share) -> Result<(), Failure>,
) -> Result<Share, Failure> {
    with_registry(|registry| {
        registry.entries.retain(|id, entry| {
            if id == data_id || entry.is_alive(id) {
                return true;
            }
            let collected = collect(id, Share { index: entry.index });
            if let Err(failure) = &collected {
                eprintln!("berth-agent: clearing away after {}: {failure}", entry.data.display());
            }
            collected.is_err()
        });
        if let Some(entry) = registry.entries.get_mut(data_id) {
            entry.data = data.to_path_buf();
            return Ok(Share { index: entry.index });
        }
        let busy = Busy::read()?;
        let taken: Vec<u8> = registry.entries.values().map(|entry| entry.index).collect();
        let index = (0..INDICES)
            .find(|index| !taken.contains(index) && busy.allows(Share { index: *index }))
            .ok_or_else(|| {
                Failure::new(
                    FailureCode::Limit,
                    format!(
                        "this machine has no free index for {}: {} data folders are registered \
                         in {FOLDER}, and the other ranges of user ids or addresses \
                         (10.200.0.0/16 upward) are in use; remove a data folder or a route",
                        data.display(),
                        taken.len()
                    ),
                )
            })?;
        let entry = Entry { index, data: data.to_path_buf() };
        registry.entries.insert(data_id.to_owned(), entry);
        Ok(Share { index })
    })
}

impl Entry {
    fn is_alive(&self, data_id: &str) -> bool {
        fs::read_to_string(self.data.join("id")).is_ok_and(|id| id.trim() == data_id)
    }
}

fn with_registry<T>(work: impl FnOnce(&mut Registry) -> Result<T, Failure>) -> Result<T, Failure> {
    let folder = Path::new(FOLDER);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .because(|| format!("making {FOLDER}"))?;
    let lock = private_file(&folder.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive).because(|| format!("locking {FOLDER}"))?;
    let path = folder.join("registry.json");
    let mut registry = match fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).because(|| format!("reading {}", path.display()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Registry::default(),
        Err(error) => return Err(error).because(|| format!("reading {}", path.display())),
    };
    let outcome = work(&mut registry)?;
    let fresh = folder.join("registry.json.new");
    let _ = fs::remove_file(&fresh);
    let file = private_file(&fresh)?;
    serde_json::to_writer(&file, &registry).because(|| format!("writing {}", fresh.display()))?;
    file.sync_all().because(|| format!("writing {}", fresh.display()))?;
    fs::rename(&fresh, &path).because(|| format!("replacing {}", path.display()))?;
    Ok(outcome)
}

fn private_file(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .because(|| format!("opening {}", path.display()))
}

/// Ranges that others use on this machine.
struct Busy {
    /// First and last user id.
    uids: Vec<(u32, u32)>,
    /// Interface, first and last address of each route.
    routes: Vec<(String, u32, u32)>,
}

impl Busy {
    fn read() -> Result<Self, Failure> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut uids = passwd_ids(&read("/etc/passwd"));
        uids.extend(subordinate_ids(&read("/etc/subuid")));
        uids.extend(subordinate_ids(&read("/etc/subgid")));
        let routes = fs::read_to_string("/proc/net/route").because(|| "reading the routes")?;
        Ok(Self { uids, routes: route_ranges(&routes) })
    }

    fn allows(&self, share: Share) -> bool {
        let (uid, net) = (share.uid_base(), u32::from(share.network()));
        let uid_free = !self.uids.iter().any(|(a, b)| *a < uid + UID_RANGE && *b >= uid);
        let own = share.interface();
        let net_free = !self
            .routes
            .iter()
            .any(|(interface, a, b)| *interface != own && *a <= net + 0xffff && *b >= net);
        uid_free && net_free
    }
}

fn passwd_ids(text: &str) -> Vec<(u32, u32)> {
    let uid = |line: &str| line.split(':').nth(2)?.parse().ok();
    text.lines().filter_map(uid).map(|uid| (uid, uid)).collect()
}

fn subordinate_ids(text: &str) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.split(':').skip(1);
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.trim().parse().ok()?;
        Some((first, first.saturating_add(count.checked_sub(1)?)))
    };
    text.lines().filter_map(range).collect()
}

/// Routes of `/proc/net/route` but the default one; Docker's pools show as those of its bridges.
fn route_ranges(text: &str) -> Vec<(String, u32, u32)> {
    let range = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |field: usize| u32::from_str_radix(fields.get(field)?, 16).ok();
        let (first, mask) = (number(1)?.swap_bytes(), number(7)?.swap_bytes());
        (mask != 0).then(|| (fields[0].to_owned(), first, first | !mask))
    };
    text.lines().skip(1).filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_index_ends_below_the_last_user_id() {
        let last = Share { index: INDICES - 1 };
        assert!(last.uid_base().checked_add(UID_RANGE).is_some());
        assert!(u32::from(APP_BLOCKS) * 2 + 2 <= UID_RANGE / BLOCK_IDS);
    }

    #[test]
    fn an_index_is_not_given_over_routes_or_ids_of_others() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\n\
                     vpn0\t0000C80A\t00000000\t0001\t0\t0\t0\t00C0FFFF\t0\n";
        let mut busy = Busy { uids: Vec::new(), routes: route_ranges(table) };
        assert!(!busy.allows(Share { index: 0 }), "10.200.0.0/18 is routed elsewhere");
        assert!(busy.allows(Share { index: 1 }));
        busy.uids = subordinate_ids("someone:671088640:65536\n");
        assert!(!busy.allows(Share { index: 1 }), "the ids are delegated to someone");
        assert!(busy.allows(Share { index: 2 }));
    }

    #[test]
    fn its_own_interface_does_not_make_an_index_busy() {
        let table = "head\nberth3\t0000CB0A\t00000000\t0003\t0\t0\t0\t0000FFFF\t0\n";
        let busy =
            Busy { uids: passwd_ids("root:x:0:0::/root:/bin/sh"), routes: route_ranges(table) };
        assert!(busy.allows(Share { index: 3 }));
    }
}
