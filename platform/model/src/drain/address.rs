//! Which addresses are private: reached by a drain only where an operator of the platform said so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is the machine's own, of a private network, or of none that routes: loopback,
/// link-local (where clouds serve what a machine knows about itself), RFC 1918, RFC 6598, unique
/// local, multicast, unspecified; also when an IPv6 address leads to such an IPv4 address.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    a == 0
        || shared
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        // Metadata of one cloud.
        || address.octets() == [192, 0, 0, 192]
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    let leads_to_v4 = match segments {
        [0, 0, 0, 0, 0, 0, high, low] => v4(high, low),
        // NAT64 (RFC 6052, 8215) and 6to4 (RFC 3056).
        [0x64, 0xff9b, 0 | 1, .., high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => false,
    };
    leads_to_v4
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_unicast_link_local()
        || address.is_unique_local()
        || address.is_multicast()
        || segments[0] & 0xffc0 == 0xfec0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_machine_and_of_private_networks_are_private_in_every_writing() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "100.100.100.200",
            "169.254.169.254",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        for text in ["1.1.1.1", "203.0.113.9", "198.18.0.1", "172.32.0.1", "2606:4700::1"] {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }
}
