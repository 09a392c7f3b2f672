//! Which addresses guests and builds may reach. Pure but for the list of the host's own addresses.
//!
//! There is no test for "global" addresses: registries behind mirrors resolve into ranges that such
//! tests refuse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefusal {
    /// Never, whoever asks.
    #[error("{0} addresses are never reached")]
    Never(&'static str),
    /// Private addresses need the operator's word.
    #[error("private addresses are reached only where the operator allows the host")]
    Private,
}

/// What an address is judged against.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Addresses of the host's interfaces.
    pub own: &'a [IpAddr],
    /// First address of the instances' /16.
    pub instances: Option<Ipv4Addr>,
    /// Private ranges may pass.
    pub private: bool,
}

/// Judges one address.
///
/// # Errors
/// Why it is not connected to.
pub fn judge(address: IpAddr, around: &Surroundings<'_>) -> Result<(), AddressRefusal> {
    let address = address.to_canonical();
    if around.own.iter().any(|own| own.to_canonical() == address) {
        return Err(AddressRefusal::Never("the host's own"));
    }
    match address {
        IpAddr::V4(v4) => judge_v4(v4, around),
        IpAddr::V6(v6) => judge_v6(v6, around),
    }
}

fn judge_v4(address: Ipv4Addr, around: &Surroundings<'_>) -> Result<(), AddressRefusal> {
    let [a, b, ..] = address.octets();
    if a == 0 {
        return Err(AddressRefusal::Never("unspecified"));
    }
    if address.is_loopback() {
        return Err(AddressRefusal::Never("loopback"));
    }
    if address.is_link_local() {
        return Err(AddressRefusal::Never("link-local and metadata"));
    }
    if address.is_multicast() || address.is_broadcast() {
        return Err(AddressRefusal::Never("multicast"));
    }
    if around.instances.is_some_and(|base| base.octets()[..2] == [a, b]) {
        return Err(AddressRefusal::Never("instance"));
    }
    // Metadata services outside 169.254/16: Alibaba Cloud, Oracle's old one.
    if matches!(address.octets(), [100, 100, 100, 200] | [192, 0, 0, 192]) {
        return Err(AddressRefusal::Never("metadata"));
    }
    let shared = a == 100 && (64..128).contains(&b);
    if (address.is_private() || shared) && !around.private {
        return Err(AddressRefusal::Private);
    }
    Ok(())
}

fn judge_v6(address: Ipv6Addr, around: &Surroundings<'_>) -> Result<(), AddressRefusal> {
    let segments = address.segments();
    if address.is_unspecified() {
        return Err(AddressRefusal::Never("unspecified"));
    }
    if address.is_loopback() {
        return Err(AddressRefusal::Never("loopback"));
    }
    if address.is_unicast_link_local() || segments[0] & 0xffc0 == 0xfec0 {
        return Err(AddressRefusal::Never("link-local and metadata"));
    }
    if address.is_multicast() {
        return Err(AddressRefusal::Never("multicast"));
    }
    // Amazon's metadata service over IPv6.
    if segments == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] {
        return Err(AddressRefusal::Never("metadata"));
    }
    if let Some(inner) = embedded_v4(segments) {
        return judge_v4(inner, around);
    }
    if address.is_unique_local() && !around.private {
        return Err(AddressRefusal::Private);
    }
    Ok(())
}

/// The IPv4 address that an IPv6 address leads to: compatible (RFC 4291), NAT64 (RFC 6052, 8215),
/// 6to4 (RFC 3056). Mapped addresses are canonical before they come here.
fn embedded_v4(segments: [u16; 8]) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 0 | 1, .., high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Addresses of the host's interfaces, read anew, because they change while the platform runs.
///
/// # Errors
/// As `getifaddrs` says.
pub fn own() -> std::io::Result<Vec<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs().map_err(std::io::Error::from)?;
    Ok(interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str, private: bool) -> Result<(), AddressRefusal> {
        let own = ["198.51.100.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let around =
            Surroundings { own: &own, instances: Some(Ipv4Addr::new(10, 200, 0, 0)), private };
        judge(text.parse().unwrap(), &around)
    }

    #[test]
    fn what_is_never_reached_is_refused_even_where_private_is_allowed() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "10.200.3.4",
            "100.100.100.200",
            "198.51.100.7",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "2001:db8::7",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "::ffff:198.51.100.7",
            "64:ff9b::ac8:1",
        ] {
            assert!(matches!(verdict(text, true), Err(AddressRefusal::Never(_))), "{text}");
        }
    }

    #[test]
    fn private_ranges_need_the_operators_word() {
        for text in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.0.1",
            "fd12::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ] {
            assert_eq!(verdict(text, false), Err(AddressRefusal::Private), "{text}");
            assert_eq!(verdict(text, true), Ok(()), "{text}");
        }
    }

    #[test]
    fn everything_else_passes_whether_or_not_it_is_a_global_address() {
        for text in [
            "1.1.1.1",
            "203.0.113.80",
            "198.18.0.1",
            "240.0.0.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "2001:db8::8",
        ] {
            assert_eq!(verdict(text, false), Ok(()), "{text}");
        }
    }

    #[test]
    fn the_hosts_own_addresses_are_found() {
        assert!(own().unwrap().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
