//! Host names as they are compared: lower case, without port and trailing dot.
//!
//! Takes the bytes of a Host header or of a URI's authority and gives a name on the stack, or
//! nothing when they are not a valid host (RFC 9110 section 7.2, RFC 3986 section 3.2.2). IDNA
//! names arrive as their ASCII form; other non-ASCII bytes are not a host.

use std::net::Ipv6Addr;

const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A normalised host name.
#[derive(Clone, Copy)]
pub(crate) struct HostName {
    bytes: [u8; NAME_BYTES_MAX],
    len: usize,
}

impl HostName {
    /// The name in a Host value or authority without user information.
    pub(crate) fn parse(authority: &[u8]) -> Option<Self> {
        let (name, port) = split_port(authority)?;
        if !port.is_empty() && !is_port(port) {
            return None;
        }
        if name.first() == Some(&b'[') {
            return Self::lower(name).filter(|_| is_ipv6(name));
        }
        let name = name.strip_suffix(b".").unwrap_or(name);
        let well_formed = !name.is_empty()
            && name.split(|b| *b == b'.').all(|label| {
                !label.is_empty()
                    && label.len() <= LABEL_BYTES_MAX
                    && label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            });
        Self::lower(name).filter(|_| well_formed)
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }

    fn lower(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; NAME_BYTES_MAX];
        let target = bytes.get_mut(..name.len())?;
        target.copy_from_slice(name);
        target.make_ascii_lowercase();
        Some(Self { bytes, len: name.len() })
    }
}

/// Name and port; the port is empty when there is none.
fn split_port(authority: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match authority.first()? {
        b'[' => authority.iter().position(|b| *b == b']')? + 1,
        _ => authority.iter().position(|b| *b == b':').unwrap_or(authority.len()),
    };
    let (name, rest) = authority.split_at(end);
    match rest.split_first() {
        None => Some((name, rest)),
        Some((b':', port)) => Some((name, port)),
        Some(_) => None,
    }
}

fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(port).is_ok_and(|text| text.parse::<u16>().is_ok())
}

fn is_ipv6(bracketed: &[u8]) -> bool {
    std::str::from_utf8(&bracketed[1..bracketed.len() - 1])
        .is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<String> {
        HostName::parse(text.as_bytes()).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn a_host_loses_its_port_its_case_and_its_trailing_dot() {
        for (text, name) in [
            ("example.org", "example.org"),
            ("EXAMPLE.Org", "example.org"),
            ("example.org:8080", "example.org"),
            ("example.org:", "example.org"),
            ("example.org.", "example.org"),
            ("example.org.:443", "example.org"),
            ("a_b.example.org", "a_b.example.org"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:8080", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_host_is_refused() {
        let long = "a".repeat(64);
        let longer = format!("{}example", "a.".repeat(130));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "user@a",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:123456",
            "a:-1",
            "[::1",
            "[::1]x",
            "[zz]",
            "[]",
            "b\u{fc}cher.example",
            "a\0b",
            "a%41",
            "a?b",
            "a#b",
            "a\\b",
            "a,b",
            "*.a",
            &long,
            &longer,
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_normal_name_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(name) = HostName::parse(&bytes) {
                let text = name.as_str();
                prop_assert!(!text.is_empty());
                prop_assert!(text.is_ascii());
                prop_assert_eq!(text, text.to_ascii_lowercase());
            }
        }

        #[test]
        fn normalising_is_idempotent_and_ignores_case_port_and_dot(
            name in "[a-zA-Z0-9_-]{1,20}(\\.[a-zA-Z0-9-]{1,20}){0,4}",
            port in proptest::option::of(0u16..),
            dot in any::<bool>(),
        ) {
            let mut text = name.clone();
            if dot { text.push('.'); }
            if let Some(port) = port { text.push_str(&format!(":{port}")); }
            let normal = parse(&text);
            let expected = Some(name.to_ascii_lowercase());
            prop_assert_eq!(&normal, &expected);
            prop_assert_eq!(parse(&name.to_ascii_lowercase()), normal);
        }
    }
}
