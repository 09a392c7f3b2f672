//! The machine's registry: which data folder has which index.
//!
//! Several platforms and parallel tests live on one machine. The index gives a data folder its
//! range of user ids, its interface name and, unless the operator named another one, its /16. The
//! registry is root's, under a lock; an entry whose data folder is gone, or is another one now, is
//! collected.

mod docker;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_container::{FailureCode, Ids, NetworkRange};
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

/// What a data folder has of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    index: u8,
    /// The operator's word about its network.
    range: Option<NetworkRange>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Registry {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    index: u8,
    data: PathBuf,
    /// The operator's; the index gives it where there is none.
    #[serde(default)]
    range: Option<NetworkRange>,
}

impl Share {
    pub(crate) fn new(index: u8, range: Option<NetworkRange>) -> Self {
        Self { index, range }
    }

    /// The /16 that the operator asked for, if so.
    pub(crate) fn range(self) -> Option<NetworkRange> {
        self.range
    }

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
        let of_index = Ipv4Addr::new(10, 200 + self.index, 0, 0);
        self.range.map_or(of_index, NetworkRange::base)
    }

    /// The host's end of the uplink.
    pub(crate) fn interface(self) -> String {
        interface(self.index)
    }
}

fn interface(index: u8) -> String {
    format!("berth{index}")
}

/// What a start asks for.
pub(crate) struct Asked<'a> {
    pub(crate) data_id: &'a str,
    pub(crate) data: &'a Path,
    pub(crate) range: Option<NetworkRange>,
    /// Its network is there, and instances may run in it: it stays as it is, whatever is asked for.
    pub(crate) in_place: bool,
}

/// The share of a data folder, the same at each call while the folder exists and the operator asks
/// for the same range. `collect` clears away what a data folder that is gone left on the machine;
/// where it fails, the entry stays for the next time.
///
/// A range that the operator named is looked at whenever the network is made anew. The one of an
/// index is given once.
pub(crate) fn share(
    asked: &Asked<'_>,
    collect: impl Fn(&str, Share) -> Result<(), Failure>,
) -> Result<Share, Failure> {
    with_registry(|registry| {
        registry.entries.retain(|id, entry| {
            if id == asked.data_id || entry.is_alive(id) {
                return true;
            }
            let collected = collect(id, entry.share());
            if let Err(failure) = &collected {
                eprintln!("berth-agent: clearing away after {}: {failure}", entry.data.display());
            }
            collected.is_err()
        });
        let own = registry.entries.remove(asked.data_id).map(|entry| entry.share());
        let share = match own {
            Some(own) if asked.in_place => own,
            Some(own) if own.range.is_none() && asked.range.is_none() => own,
            own => fresh(asked, own, registry)?,
        };
        let entry =
            Entry { index: share.index, data: asked.data.to_path_buf(), range: share.range };
        registry.entries.insert(asked.data_id.to_owned(), entry);
        Ok(share)
    })
}

/// A share that overlaps nobody's; `own` is the one that the data folder had, whose index stays.
fn fresh(asked: &Asked<'_>, own: Option<Share>, others: &Registry) -> Result<Share, Failure> {
    let busy = Busy::read(others)?;
    if let Some(index) = own.map(|own| own.index) {
        let share = Share::new(index, asked.range);
        return busy.has_room(share).map(|()| share);
    }
    let taken: Vec<u8> = others.entries.values().map(|entry| entry.index).collect();
    let mut free = (0..INDICES)
        .filter(|index| !taken.contains(index) && busy.allows_ids(*index))
        .map(|index| Share::new(index, asked.range));
    let share = match asked.range {
        Some(_) => free.next().map(|share| busy.has_room(share).map(|()| share)).transpose()?,
        None => free.find(|share| busy.has_room(*share).is_ok()),
    };
    share.ok_or_else(|| {
        Failure::new(
            FailureCode::Limit,
            format!(
                "this machine has no free index for {}: {} data folders are registered in \
                 {FOLDER}, and the other ranges of user ids or addresses (10.200.0.0/16 upward) \
                 are in use; remove a data folder or a route, or name another range of addresses \
                 as `range` in the section `network` of the configuration",
                asked.data.display(),
                taken.len()
            ),
        )
    })
}

impl Entry {
    fn share(&self) -> Share {
        Share::new(self.index, self.range)
    }

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
    networks: Vec<Taken>,
}

/// Addresses that are somebody's.
#[derive(Debug)]
struct Taken {
    /// In words.
    whose: String,
    /// The interface of a route.
    interface: Option<String>,
    first: u32,
    last: u32,
}

impl Busy {
    fn read(others: &Registry) -> Result<Self, Failure> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut uids = passwd_ids(&read("/etc/passwd"));
        uids.extend(subordinate_ids(&read("/etc/subuid")));
        uids.extend(subordinate_ids(&read("/etc/subgid")));
        let routes = fs::read_to_string("/proc/net/route").because(|| "reading the routes")?;
        let platforms = others.entries.values().map(|entry| {
            let first = u32::from(entry.share().network());
            let whose = format!("the platform in {}", entry.data.display());
            Taken { whose, interface: None, first, last: first + 0xffff }
        });
        let pools = docker::pools().into_iter().map(|(text, first, last)| {
            let whose = format!("Docker's configuration, which has {text}");
            Taken { whose, interface: None, first, last }
        });
        Ok(Self { uids, networks: platforms.chain(pools).chain(route_ranges(&routes)).collect() })
    }

    fn allows_ids(&self, index: u8) -> bool {
        let uid = Share::new(index, None).uid_base();
        !self.uids.iter().any(|(a, b)| *a < uid + UID_RANGE && *b >= uid)
    }

    /// Refuses a network that overlaps somebody's, by name.
    fn has_room(&self, share: Share) -> Result<(), Failure> {
        let net = u32::from(share.network());
        let own = share.interface();
        let whose = self.networks.iter().find(|taken| {
            taken.interface.as_ref() != Some(&own)
                && taken.first <= net + 0xffff
                && taken.last >= net
        });
        whose.map_or(Ok(()), |taken| {
            Err(Failure::refused(format!(
                "the instances' network {}/16 overlaps {}; name another one as `range` in the \
                 section `network` of the configuration",
                share.network(),
                taken.whose
            )))
        })
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

/// Routes of `/proc/net/route` but the default one; networks of Docker that exist show as those of
/// its bridges.
fn route_ranges(text: &str) -> Vec<Taken> {
    let range = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |field: usize| u32::from_str_radix(fields.get(field)?, 16).ok();
        let (first, mask) = (number(1)?.swap_bytes(), number(7)?.swap_bytes());
        let (interface, bits) = (fields[0].to_owned(), mask.count_ones());
        let whose = format!("the route {}/{bits} by {interface}", Ipv4Addr::from(first));
        let interface = Some(interface);
        (mask != 0).then_some(Taken { whose, interface, first, last: first | !mask })
    };
    text.lines().skip(1).filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_index_ends_below_the_last_user_id() {
        let last = Share::new(INDICES - 1, None);
        assert!(last.uid_base().checked_add(UID_RANGE).is_some());
        assert!(u32::from(APP_BLOCKS) * 2 + 2 <= UID_RANGE / BLOCK_IDS);
    }

    #[test]
    fn an_index_is_not_given_over_routes_or_ids_of_others() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\n\
                     vpn0\t0000C80A\t00000000\t0001\t0\t0\t0\t00C0FFFF\t0\n";
        let of = |index| Share::new(index, None);
        let mut busy = Busy { uids: Vec::new(), networks: route_ranges(table) };
        let refused = busy.has_room(of(0)).unwrap_err().message;
        assert!(
            refused.contains("10.200.0.0/16 overlaps the route 10.200.0.0/18 by vpn0"),
            "{refused}"
        );
        busy.has_room(of(1)).unwrap();
        assert!(busy.allows_ids(1));
        busy.uids = subordinate_ids("someone:671088640:65536\n");
        assert!(!busy.allows_ids(1), "the ids are delegated to someone");
        assert!(busy.allows_ids(2));
    }

    #[test]
    fn its_own_interface_does_not_make_an_index_busy() {
        let table = "head\nberth3\t0000CB0A\t00000000\t0003\t0\t0\t0\t0000FFFF\t0\n";
        let busy =
            Busy { uids: passwd_ids("root:x:0:0::/root:/bin/sh"), networks: route_ranges(table) };
        assert!(busy.allows_ids(3));
        busy.has_room(Share::new(3, None)).unwrap();
        busy.has_room(Share::new(4, "10.203.0.0/16".parse().ok())).unwrap_err();
    }
}
