//! The servers of the host's `resolv.conf`, as they are now.

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// As many as the C library reads.
const SERVERS_MAX: usize = 3;
/// A longer file is cut here.
const FILE_BYTES_MAX: u64 = 64 << 10;
const PORT: u16 = 53;
/// How often the file is looked at, at most.
const LOOK: Duration = Duration::from_millis(500);

/// Servers, and which of them answered last.
pub(super) struct Servers {
    file: PathBuf,
    state: Mutex<State>,
}

struct State {
    looked: Option<Instant>,
    /// Inode, length and times of the file that was read.
    stamp: Option<[i64; 4]>,
    list: Arc<[SocketAddr]>,
    first: usize,
}

impl Servers {
    pub(super) fn new(file: PathBuf) -> Self {
        let state = State { looked: None, stamp: None, list: parse(""), first: 0 };
        Self { file, state: Mutex::new(state) }
    }

    /// The servers, and the number of the one to begin with. Never empty.
    pub(super) fn current(&self) -> (Arc<[SocketAddr]>, usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            state.looked = Some(Instant::now());
            let stamp = self.stamp();
            if stamp != state.stamp {
                state.stamp = stamp;
                state.list = parse(&self.text());
                state.first = 0;
                tracing::info!(servers = ?state.list, "names are asked of the host's servers");
            }
        }
        (Arc::clone(&state.list), state.first)
    }

    /// Begin with this one from now on: those before it do not answer.
    pub(super) fn prefer(&self, list: &Arc<[SocketAddr]>, number: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(list, &state.list) {
            state.first = number;
        }
    }

    fn stamp(&self) -> Option<[i64; 4]> {
        let found = fs::metadata(&self.file).ok()?;
        Some([found.ino() as i64, found.size() as i64, found.ctime(), found.ctime_nsec()])
    }

    fn text(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.file)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        if let Err(error) = read {
            tracing::warn!(%error, "cannot read {}", self.file.display());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The servers that a file names; where it names none, the one of this machine, as
/// resolv.conf(5) says.
fn parse(text: &str) -> Arc<[SocketAddr]> {
    let named: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        .filter_map(server)
        .take(SERVERS_MAX)
        .collect();
    if named.is_empty() {
        return Arc::new([SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)]);
    }
    named.into()
}

/// An address, an IPv6 one perhaps with its interface after `%`.
fn server(word: &str) -> Option<SocketAddr> {
    if let Some((address, interface)) = word.split_once('%') {
        let scope = interface.parse().ok().or_else(|| index_of(interface))?;
        return Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into());
    }
    Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, PORT))
}

fn index_of(interface: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_up_to_three_servers_and_loopback_counts() {
        let text = "# comment\nsearch corp.example\n nameserver 127.0.0.53 # stub\n\
                    nameserver\tfd00::1\nnameserver nonsense\nnameserver fe80::1%1\n\
                    nameservers 192.0.2.1\nnameserver 192.0.2.7\noptions edns0\n";
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53:53", "[fd00::1]:53", "[fe80::1%1]:53"]);
    }

    #[test]
    fn without_a_name_the_servers_are_this_machine() {
        for text in ["", "search example\n", "nameserver\n"] {
            assert_eq!(*parse(text), ["127.0.0.1:53".parse().unwrap()], "{text:?}");
        }
    }

    #[test]
    fn a_changed_file_is_followed_and_begins_with_its_first_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        fs::write(&file, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
        let servers = Servers::new(file.clone());
        let (list, first) = servers.current();
        assert_eq!((list.len(), first), (2, 0));
        servers.prefer(&list, 1);
        assert_eq!(servers.current().1, 1);
        // Replaced, as resolvconf does it.
        let fresh = folder.path().join("new");
        fs::write(&fresh, "nameserver 192.0.2.3\n").unwrap();
        fs::rename(&fresh, &file).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let (list, first) = loop {
            let (list, first) = servers.current();
            if list.len() == 1 {
                break (list, first);
            }
            assert!(Instant::now() < deadline, "the change is not seen");
            std::thread::yield_now();
        };
        assert_eq!((list[0], first), ("192.0.2.3:53".parse().unwrap(), 0));
    }
}
