//! The name service of instances.
//!
//! Takes queries of instances on sockets that the agent opened in their network namespace; gives
//! each to the servers of the host's `resolv.conf` by a socket of its own in the host's namespace,
//! so that a resolver on the host's loopback is as good as any, and hands the answer back unread.
//! It lives in the router, because lookups must not depend on the control process. It must never
//! answer anybody but an instance, remember answers, or let one instance use up what all share:
//! places are counted per instance and in all, and every wait ends.

mod ask;
mod datagrams;
mod message;
mod servers;
mod streams;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use servers::Servers;

/// Offset of the first instance in its /16: the platform's own addresses lie before it.
const FIRST_INSTANCE: u32 = 256;

/// How names are looked up.
#[derive(Debug, Clone)]
pub struct NameSettings {
    /// The file that names the servers. `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Queries without an answer yet, of all instances; more are dropped. 4096.
    pub outstanding_max: usize,
    /// The same of one instance; resolvers ask a dropped query again. 128.
    pub outstanding_per_instance_max: usize,
    /// Connections of all instances. 512.
    pub connections_max: usize,
    /// Connections of one instance. 16.
    pub connections_per_instance_max: usize,
    /// Waiting for one server. 1.5 s: three of these are less than the 5 s of a C library.
    pub attempt: Duration,
    /// Servers asked for one query, the same one again where there are fewer. 3.
    pub attempts_max: usize,
    /// From one query of a connection to the end of the next, and to taking an answer. 10 s.
    pub connection_idle: Duration,
}

impl Default for NameSettings {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            outstanding_max: 4096,
            outstanding_per_instance_max: 128,
            connections_max: 512,
            connections_per_instance_max: 16,
            attempt: Duration::from_millis(1500),
            attempts_max: 3,
            connection_idle: Duration::from_secs(10),
        }
    }
}

/// The inherited sockets, both bound to the second address of the instances' /16.
#[derive(Debug)]
pub struct NameSockets {
    /// A UDP socket.
    pub datagrams: OwnedFd,
    /// A listening TCP socket.
    pub streams: OwnedFd,
}

/// Answers queries until `stop`, and then finishes what was begun. `addons` knows where an add-on
/// listens; its names are answered here.
///
/// # Errors
/// The sockets are not what they must be.
pub async fn serve(
    settings: NameSettings,
    sockets: NameSockets,
    addons: impl Fn(&str) -> Option<Ipv4Addr> + Send + Sync + 'static,
    stop: CancellationToken,
) -> io::Result<()> {
    let datagrams = std::net::UdpSocket::from(sockets.datagrams);
    datagrams.set_nonblocking(true)?;
    let streams = std::net::TcpListener::from(sockets.streams);
    streams.set_nonblocking(true)?;
    let instances = Instances::around(datagrams.local_addr()?)?;
    let datagrams = UdpSocket::from_std(datagrams)?;
    let streams = TcpListener::from_std(streams)?;
    let names = Arc::new(Names {
        servers: Servers::new(settings.resolv_conf.clone()),
        queries: Places::new(settings.outstanding_max, settings.outstanding_per_instance_max),
        connections: Places::new(settings.connections_max, settings.connections_per_instance_max),
        instances,
        addons: Box::new(addons),
        settings,
        stop,
        tasks: TaskTracker::new(),
    });
    tokio::join!(
        datagrams::answer(Arc::clone(&names), Arc::new(datagrams)),
        streams::accept(Arc::clone(&names), streams)
    );
    names.tasks.close();
    names.tasks.wait().await;
    Ok(())
}

/// The address of an add-on, by its name.
type Addons = Box<dyn Fn(&str) -> Option<Ipv4Addr> + Send + Sync>;

/// What every query shares.
struct Names {
    settings: NameSettings,
    servers: Servers,
    instances: Instances,
    addons: Addons,
    queries: Arc<Places>,
    connections: Arc<Places>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Which addresses are instances'.
#[derive(Debug, Clone, Copy)]
struct Instances {
    base: u32,
}

impl Instances {
    /// Those of the /16 in which the service's own address lies.
    fn around(own: SocketAddr) -> io::Result<Self> {
        match own.ip() {
            IpAddr::V4(v4) if !v4.is_unspecified() => Ok(Self { base: v4.to_bits() & 0xffff_0000 }),
            other => Err(io::Error::other(format!("{other} is not in a network of instances"))),
        }
    }

    fn base(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base)
    }

    fn contain(self, ip: IpAddr) -> bool {
        let IpAddr::V4(v4) = ip.to_canonical() else { return false };
        v4.to_bits().checked_sub(self.base).is_some_and(|at| (FIRST_INSTANCE..0xffff).contains(&at))
    }
}

/// Places for something, so many of each address and so many in all.
struct Places {
    all: Arc<Semaphore>,
    each_max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A taken place; given back when dropped.
struct Place {
    places: Arc<Places>,
    ip: IpAddr,
    _one: OwnedSemaphorePermit,
}

impl Places {
    fn new(all_max: usize, each_max: usize) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(all_max));
        Arc::new(Self { all, each_max, taken: Mutex::default() })
    }

    /// `None` when the address, or all together, have as many as they may.
    fn take(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(ip).or_insert(0);
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(self), ip, _one: one })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_never_takes_the_places_of_all() {
        let places = Places::new(3, 2);
        let [one, other]: [IpAddr; 2] = [[10, 200, 1, 0].into(), [10, 200, 1, 1].into()];
        let first = places.take(one).unwrap();
        let _second = places.take(one).unwrap();
        assert!(places.take(one).is_none(), "its own share is used up");
        let _third = places.take(other).unwrap();
        assert!(places.take(other).is_none(), "all places are taken");
        drop(first);
        assert!(places.take(other).is_some());
    }

    #[test]
    fn instances_are_the_addresses_after_the_platforms_own() {
        let instances = Instances::around("10.203.0.2:53".parse().unwrap()).unwrap();
        assert_eq!(instances.base(), Ipv4Addr::new(10, 203, 0, 0));
        for (text, inside) in [
            ("10.203.1.0", true),
            ("10.203.255.254", true),
            ("::ffff:10.203.1.0", true),
            ("10.203.0.1", false),
            ("10.203.0.255", false),
            ("10.203.255.255", false),
            ("10.202.1.0", false),
            ("10.204.1.0", false),
            ("127.0.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(instances.contain(text.parse().unwrap()), inside, "{text}");
        }
        assert!(Instances::around("0.0.0.0:53".parse().unwrap()).is_err());
    }
}
