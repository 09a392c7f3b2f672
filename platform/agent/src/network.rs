//! The network of a data folder's instances.
//!
//! All of it lies in one network namespace, pinned in the run folder: a routed /32 interface per
//! instance, no bridges. The host gets one uplink, one route, one nft table, and a pair of FORWARD
//! rules beside Docker's; all are put back every few seconds, because others remove them.
//! Whatever is not named here is dropped: an instance reaches the outside by the default route,
//! the name service and the router's ports, never the host, another app, a container of others or
//! the metadata address. The operator may keep it from private addresses outside as well.

mod addresses;
mod forward;
mod link;
mod namespace;
mod rules;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use berth_container::{Network, NetworkSettings};
use rustix::net::sockopt;

use crate::failure::{Because, Failure};
use crate::machine::Share;

pub(crate) use addresses::Addresses;
pub(crate) use link::{Plug, bring_up_loopback, interface, plug, unplug};
pub(crate) use namespace::inside;

/// What the agent keeps of its network.
#[derive(Debug)]
pub(crate) struct Net {
    share: Share,
    /// Instances may reach private addresses by the default route.
    private_ranges: bool,
    data_id: String,
    namespace: OwnedFd,
    /// Ports of the router, which instances may reach on the host.
    router_ports: Mutex<BTreeSet<u16>>,
    /// Where they are kept for the next agent.
    kept_ports: PathBuf,
    /// Who was last said to talk to whom; none before the first time.
    talks: Mutex<Option<(Vec<Vec<Ipv4Addr>>, Links)>>,
    /// Removed for good: nothing is put back.
    removed: Mutex<bool>,
}

/// Who reaches which TCP port of whom.
pub(crate) type Links = BTreeSet<(Ipv4Addr, Ipv4Addr, u16)>;

/// Host's end of the uplink: where requests to instances come from.
pub(crate) fn gateway(base: Ipv4Addr) -> Ipv4Addr {
    offset(base, 1)
}

/// The namespace's end of the uplink: the next hop of every instance.
pub(crate) fn hop(base: Ipv4Addr) -> Ipv4Addr {
    offset(base, 2)
}

fn offset(base: Ipv4Addr, by: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(base) + by)
}

/// Where instances ask for names: the uplink's end in their namespace.
pub(crate) fn name_service(base: Ipv4Addr) -> Ipv4Addr {
    hop(base)
}

/// The port of names (RFC 1035).
const NAMES_PORT: u16 = 53;
/// Queries that wait to be read, in the kernel's count: up to 2.3 kB for one of any length. With
/// the bound of the rules these are seven instances that ask for all they may in one moment.
const NAMES_WAITING_BYTES: usize = 4 << 20;

/// The pin of the namespace in the run folder.
fn pin(run: &Path) -> std::path::PathBuf {
    run.join("net")
}

/// Whether the namespace of a data folder exists, with what runs in it.
pub(crate) fn is_there(run: &Path) -> bool {
    namespace::is_pinned(&pin(run))
}

impl Net {
    /// Finds or makes the namespace, the uplink and the rules.
    pub(crate) fn open(
        run: &Path,
        data_id: &str,
        share: Share,
        private_ranges: bool,
    ) -> Result<Self, Failure> {
        let pin = pin(run);
        let namespace = namespace::open_or_make(&pin)?;
        let net = Self {
            share,
            private_ranges,
            data_id: data_id.to_owned(),
            namespace,
            router_ports: Mutex::new(kept_ports(run)),
            kept_ports: run.join(ROUTER_PORTS),
            talks: Mutex::new(None),
            removed: Mutex::new(false),
        };
        net.make_uplink(&pin)?;
        inside(&net.namespace, namespace::settings)??;
        rules::replace_inside(&net.namespace, share, private_ranges)?;
        net.reconcile()?;
        Ok(net)
    }

    /// What berthd and the router must know.
    pub(crate) fn facts(&self) -> Network {
        let base = self.share.network();
        let settings =
            NetworkSettings { range: self.share.range(), private_ranges: self.private_ranges };
        Network { base, gateway: gateway(base), settings }
    }

    /// The namespace of all instances.
    pub(crate) fn namespace(&self) -> &OwnedFd {
        &self.namespace
    }

    /// The uplink. What an agent that died half way left is completed; one that leads elsewhere,
    /// because a data folder with this index vanished, is replaced.
    fn make_uplink(&self, pin: &Path) -> Result<(), Failure> {
        let name = self.share.interface();
        let base = self.share.network();
        let (host, hop, pin) = (gateway(base), hop(base), pin.display());
        if !inside(&self.namespace, || link::exists(UPLINK))? {
            delete_link(&name)?;
            let line = format!("link add {name} type veth peer name {UPLINK} netns {pin}\n");
            run_lines("ip", &["-batch", "-"], &line)?;
        }
        namespace::without_ipv6(&name)?;
        inside(&self.namespace, || namespace::without_ipv6(UPLINK))??;
        run_lines(
            "ip",
            &["-batch", "-"],
            &format!(
                "addr replace {host} peer {hop} dev {name}\n\
                 link set {name} up\n\
                 route replace {base}/16 via {hop} dev {name} src {host}\n"
            ),
        )?;
        // A route back for what is no instance, or packets would go round between both ends.
        let lines = format!(
            "link set lo up\n\
             addr replace {hop} peer {host} dev {UPLINK}\n\
             link set {UPLINK} up\n\
             route replace default via {host} dev {UPLINK}\n\
             route replace unreachable {base}/16\n"
        );
        inside(&self.namespace, move || run_lines("ip", &["-batch", "-"], &lines))?
    }

    /// Puts back what others removed from the host: the table, the FORWARD pair, forwarding.
    pub(crate) fn reconcile(&self) -> Result<(), Failure> {
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        if *removed {
            return Ok(());
        }
        let outside = forward::default_interface();
        let ports = self.router_ports.lock().unwrap_or_else(PoisonError::into_inner);
        rules::ensure_on_host(self.share, &self.data_id, outside.as_deref(), &ports)?;
        drop(ports);
        if let Some(outside) = outside {
            let uplink = self.share.interface();
            forward::allow(&uplink, &outside)?;
            forward::ensure_pair(&uplink, &outside, &self.data_id)?;
        }
        Ok(())
    }

    /// Lets instances reach the host's ports on which these sockets listen, and no other: the
    /// router's. Sockets that are not TCP are passed over.
    pub(crate) fn open_router_ports(&self, listeners: &[OwnedFd]) -> Result<(), Failure> {
        let ports: BTreeSet<u16> = listeners.iter().filter_map(port_of).collect();
        let mut known = self.router_ports.lock().unwrap_or_else(PoisonError::into_inner);
        if ports.is_empty() || *known == ports {
            return Ok(());
        }
        let text = serde_json::to_vec(&ports).because(|| "keeping the router's ports")?;
        std::fs::write(&self.kept_ports, text).because(|| "keeping the router's ports")?;
        *known = ports;
        drop(known);
        self.reconcile()
    }

    /// New sockets of the name service in the namespace, a UDP one and a listening TCP one. Whoever
    /// serves them needs no right in the namespace. The UDP one has room for what several instances
    /// may send at once while the router has no processor: a query that is lost costs its sender
    /// the 5 s after which a C library asks again.
    pub(crate) fn open_name_sockets(&self) -> Result<Vec<OwnedFd>, Failure> {
        let address = (name_service(self.share.network()), NAMES_PORT);
        let opened = inside(&self.namespace, || {
            let datagrams = UdpSocket::bind(address)?;
            sockopt::set_socket_recv_buffer_size_force(&datagrams, NAMES_WAITING_BYTES)?;
            std::io::Result::Ok(vec![datagrams.into(), TcpListener::bind(address)?.into()])
        });
        opened?.because(|| format!("opening the name service's sockets at {}", address.0))
    }

    /// Says which instances may talk to each other: those of the same app; and which ports of
    /// other apps' instances some of them reach.
    pub(crate) fn replace_talks(
        &self,
        groups: Vec<Vec<Ipv4Addr>>,
        links: Links,
    ) -> Result<(), Failure> {
        let mut said = self.talks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (groups, links);
        if said.as_ref() != Some(&now) {
            rules::replace_talks(&self.namespace, &now.0, &now.1)?;
            *said = Some(now);
        }
        Ok(())
    }

    /// Removes all of it from the host, and puts nothing back any more.
    pub(crate) fn remove(&self, run: &Path) -> Result<(), Failure> {
        *self.removed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        remove_traces(run, &self.data_id, self.share)
    }
}

/// Removes what a data folder's network has on the host. With the pin and the instances gone, the
/// namespace goes, and all that is in it.
pub(crate) fn remove_traces(run: &Path, data_id: &str, share: Share) -> Result<(), Failure> {
    let uplink = share.interface();
    forward::remove_pair(&uplink, data_id)?;
    rules::remove_from_host(data_id)?;
    delete_link(&uplink)?;
    namespace::unpin(&pin(run))
}

fn delete_link(name: &str) -> Result<(), Failure> {
    if !link::exists(name) {
        return Ok(());
    }
    run_lines("ip", &["-batch", "-"], &format!("link del {name}\n"))
}

/// The file of the router's ports in the run folder.
const ROUTER_PORTS: &str = "router-ports.json";

fn kept_ports(run: &Path) -> BTreeSet<u16> {
    let text = std::fs::read(run.join(ROUTER_PORTS)).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn port_of(listener: &OwnedFd) -> Option<u16> {
    let address = rustix::net::getsockname(listener).ok()?;
    std::net::SocketAddr::try_from(address).ok().map(|address| address.port())
}

/// The uplink's name inside.
const UPLINK: &str = "uplink";

/// Runs one of the host's network programs with lines that hold nothing but our own names and
/// numbers.
fn run_lines(program: &str, arguments: &[&str], lines: &str) -> Result<(), Failure> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", crate::PROGRAM_PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .because(|| format!("starting {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes()).because(|| format!("writing to {program}"))?;
    }
    let output = child.wait_with_output().because(|| format!("waiting for {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::machine(format!("{program} refused: {}", said.trim())))
}
