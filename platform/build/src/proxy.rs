//! The only way out of a build: an HTTP proxy on a socket that listens inside the build's network
//! namespace, which has nothing but `lo`.
//!
//! It takes `CONNECT host:port` and absolute-form requests (apt), resolves the name once, judges
//! every address and connects to an address that it judged. Refused are the host itself, instances,
//! link-local, metadata, multicast and unspecified addresses always, private ranges unless the
//! operator allows them or pinned a role's mirror there. Connections, bytes and times are bounded, and every host is a line of the
//! build log. It never sees what is inside a tunnel and adds no credentials but the operator's own
//! for the proxy before it.

mod connect;
mod mirror;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use berth_extensions::outbound::address::AddressRefusal;

pub use connect::{Upstream, UpstreamError};
pub use mirror::{Mirror, Mirrors, variables};

/// What the network of builds may be, as the operator set it. The default is every public host.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Steps reach only the hosts of the roles that they name.
    pub roles_only: bool,
    /// Hosts of each role: `example.org`, or `*.example.org` for every name below it.
    pub roles: BTreeMap<String, Vec<String>>,
    /// Hosts that may resolve to private addresses; `*` for all.
    pub private_hosts: Vec<String>,
    /// Where each role's packages come from: its steps reach that host and port also where it is
    /// private.
    pub mirrors: Mirrors,
    /// First address of the /16 of instances, which builds never reach.
    pub instances: Option<Ipv4Addr>,
    /// The operator's own proxy.
    pub upstream: Option<Upstream>,
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The step asked for no network.
    #[error("this step has no network")]
    NoNetwork,
    /// The host belongs to no role of the step.
    #[error("the host belongs to no role that this step names, and the operator allows only those")]
    Role,
    /// The host leads where no build, or not this one, may go.
    #[error(transparent)]
    Address(#[from] AddressRefusal),
}

/// What the step that runs now may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reach {
    /// Nothing.
    #[default]
    None,
    /// Every host that the policy lets pass.
    All,
    /// The hosts of these roles where the policy says `roles_only`, else as `All`.
    Roles(BTreeSet<String>),
}

impl Reach {
    /// From a step's `network` list.
    pub fn of(names: &[String]) -> Self {
        if names.iter().any(|name| name == "all") {
            return Self::All;
        }
        let roles: BTreeSet<String> =
            names.iter().filter(|name| *name != "none").cloned().collect();
        if roles.is_empty() { Self::None } else { Self::Roles(roles) }
    }
}

/// Bounds of one proxy.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at a time; more wait to be accepted.
    pub connections_max: usize,
    /// Bytes of all connections together, both ways.
    pub bytes_max: u64,
    /// Time for a request's head and for reaching the host.
    pub connect_s_max: u64,
    /// A connection without a byte for this long is closed.
    pub idle_s_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections_max: 64, bytes_max: 16 << 30, connect_s_max: 20, idle_s_max: 180 }
    }
}

/// Takes one line for each host that was reached or refused.
pub type Note = Arc<dyn Fn(&str) + Send + Sync>;

/// A proxy that serves until it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    policy: Arc<Policy>,
    bounds: Bounds,
    reach: RwLock<Reach>,
    note: Note,
    /// Lines that were written, so that each comes once.
    noted: Mutex<BTreeSet<String>>,
    bytes: std::sync::atomic::AtomicU64,
}

/// Most different lines of one proxy.
const NOTES_MAX: usize = 500;

impl Proxy {
    /// Serves the connections of a listening TCP socket. Nothing may be reached until
    /// [`Self::allow`] says so. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be used with tokio.
    pub fn serve(
        listener: std::net::TcpListener,
        policy: Arc<Policy>,
        bounds: Bounds,
        note: Note,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shared = Arc::new(Shared {
            policy,
            bounds,
            reach: RwLock::default(),
            note,
            noted: Mutex::default(),
            bytes: std::sync::atomic::AtomicU64::new(0),
        });
        let task = tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, task })
    }

    /// What new connections may reach from now on.
    pub fn allow(&self, reach: Reach) {
        *self.shared.reach.write().unwrap_or_else(PoisonError::into_inner) = reach;
    }

    /// Bytes that passed, both ways.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn reach(&self) -> Reach {
        self.reach.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, line: String) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < NOTES_MAX && noted.insert(line.clone()) {
            (self.note)(&line);
        }
    }

    /// Whether a mirror of the step's roles is there.
    fn pinned(&self, host: &str, port: u16) -> bool {
        mirror::is_pinned(&self.policy.mirrors, &self.reach(), host, port)
    }

    /// Whether the step may speak to a host at all; the reason when it may not.
    fn admits(&self, host: &str, port: u16) -> Result<(), Refusal> {
        match self.reach() {
            Reach::All => Ok(()),
            Reach::None => Err(Refusal::NoNetwork),
            Reach::Roles(_) if !self.policy.roles_only => Ok(()),
            Reach::Roles(roles) => {
                let listed = |role: &String| {
                    self.policy.roles.get(role).is_some_and(|hosts| matches(hosts, host))
                };
                if roles.iter().any(listed) || self.pinned(host, port) {
                    Ok(())
                } else {
                    Err(Refusal::Role)
                }
            }
        }
    }
}

/// Whether a host is among the patterns.
fn matches(patterns: &[String], host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    patterns.iter().any(|pattern| match pattern.strip_prefix('*') {
        Some("") => true,
        Some(end) => host.len() > end.len() && host.ends_with(&end.to_ascii_lowercase()),
        None => host == pattern.to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests;
