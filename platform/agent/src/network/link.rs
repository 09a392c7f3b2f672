//! An instance's interface: a veth pair between the instances' namespace and the container's.
//!
//! Both ends are made by one netlink conversation each, without programs, because this is on the
//! way of every start.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::inside;
use crate::failure::{Because, Failure};

/// The interface's name in the container.
const EYE: &str = "eth0";

/// Where an instance is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plug {
    /// The instance's address.
    pub(crate) address: Ipv4Addr,
    /// Its next hop.
    pub(crate) hop: Ipv4Addr,
}

/// The name of an instance's interface in the instances' namespace.
pub(crate) fn interface(address: Ipv4Addr) -> String {
    format!("i{:08x}", u32::from(address))
}

/// Gives the container's namespace its interface. One that an earlier attempt left is replaced.
pub(crate) fn plug(network: &OwnedFd, container: &OwnedFd, plug: Plug) -> Result<(), Failure> {
    let name = interface(plug.address);
    inside(network, || {
        let mut route = Netlink::open()?;
        match route.delete(&name) {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => return Err(error),
            _ => {}
        }
        route.add_pair(&name, container)?;
        let index = index_of(&name)?;
        route.set_up(index)?;
        route.add_route(Some(plug.address), None, index)
    })?
    .because(|| format!("making the interface {name}"))?;
    inside(container, || {
        let mut route = Netlink::open()?;
        route.set_up(index_of("lo")?)?;
        let index = index_of(EYE)?;
        // No IPv6 on the interface; `::1` stays.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{EYE}/disable_ipv6"), "1");
        route.add_address(plug.address, index)?;
        route.set_up(index)?;
        route.add_route(Some(plug.hop), None, index)?;
        route.add_route(None, Some(plug.hop), index)
    })?
    .because(|| format!("setting up {EYE} with {}", plug.address))?;
    inside(network, || settle(&name))?.because(|| format!("waiting for the interface {name}"))
}

/// Returns when an interface whose other end came up really carries packets. The kernel would get
/// to it by itself, but until then it drops what is sent, and whoever connects tries again only a
/// second later. Asking for the state of the link makes it do that at once (`linkwatch_sync_dev` in
/// net/core/link_watch.c).
fn settle(name: &str) -> io::Result<()> {
    const ETHTOOL_GLINK: u32 = 0x0a;
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // `struct ethtool_value`: the command and its answer.
    let mut value = [ETHTOOL_GLINK, 0];
    #[expect(unsafe_code, reason = "all zeros is a valid value of this plain C structure")]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // Our names are ASCII and shorter than the field, whose rest stays zero.
    for (place, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    #[expect(unsafe_code, reason = "both structures have the kernel's layout and outlive the call")]
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Removes an instance's interface; one that is not there is fine.
pub(crate) fn unplug(network: &OwnedFd, address: Ipv4Addr) -> Result<(), Failure> {
    let name = interface(address);
    match inside(network, || Netlink::open()?.delete(&name))? {
        Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
            Err(error).because(|| format!("removing the interface {name}"))
        }
        _ => Ok(()),
    }
}

/// Brings `lo` up in a namespace.
pub(crate) fn bring_up_loopback(container: &OwnedFd) -> Result<(), Failure> {
    inside(container, || Netlink::open()?.set_up(index_of("lo")?))?
        .because(|| "bringing up the loopback interface")
}

/// The number of an interface of the calling thread's namespace.
fn index_of(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}

/// Whether the calling thread's namespace has an interface of this name.
pub(super) fn exists(name: &str) -> bool {
    index_of(name).is_ok()
}

/// A conversation with the kernel's routing side, in the namespace where it was opened.
struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request and waits for its acknowledgement.
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (reply, _) = self.socket.recv_from_full()?;
        let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply)
            .map_err(|error| io::Error::other(error.to_string()))?;
        match reply.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            NetlinkPayload::Error(_) => Ok(()),
            _ => Err(io::Error::other("the kernel's answer is no acknowledgement")),
        }
    }

    fn add_pair(&mut self, name: &str, container: &OwnedFd) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(EYE.to_owned()));
        peer.attributes.push(LinkAttribute::NetNsFd(container.as_raw_fd()));
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.request(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn delete(&mut self, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index_of(name)?;
        self.request(RouteNetlinkMessage::DelLink(link), 0)
    }

    fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn add_address(&mut self, address: Ipv4Addr, index: u32) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = 32;
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
        message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// A route to one address, or to everything; by way of `gateway` where there is one.
    fn add_route(
        &mut self,
        to: Option<Ipv4Addr>,
        gateway: Option<Ipv4Addr>,
        index: u32,
    ) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = RouteScope::Link;
        message.attributes.push(RouteAttribute::Oif(index));
        if let Some(to) = to {
            message.header.destination_prefix_length = 32;
            message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(to)));
        }
        if let Some(gateway) = gateway {
            message.header.scope = RouteScope::Universe;
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        }
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
    }
}
