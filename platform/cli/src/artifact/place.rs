//! Where something lies in a registry: `HOST[:PORT]/NAME[:TAG][@DIGEST]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use berth_model::Digest;

/// Most bytes of a name and of a tag, by the distribution specification.
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// A place in a registry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    /// The registry, with its port where it is not the usual one.
    pub(super) host: String,
    pub(super) name: String,
    /// `latest` where nothing was named, as everywhere.
    pub(super) tag: String,
    /// It counts more than the tag.
    pub(super) digest: Option<Digest>,
}

impl Place {
    /// The same place by digest.
    pub(super) fn at(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.host, self.name)
    }

    /// Tag or digest, as a request names it.
    pub(super) fn version(&self) -> String {
        self.digest.map_or_else(|| self.tag.clone(), |digest| digest.to_string())
    }

    /// Whether the registry is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        })
    }
}

/// Whether a host without a port is this machine by its name or address alone.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => f.write_str(&self.at(digest)),
            None => write!(f, "{}/{}:{}", self.host, self.name, self.tag),
        }
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, rest) = text.split_once('/').ok_or("it names no host")?;
        if !is_host(host) {
            return Err("the host is none");
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| "the digest is not sha256: and 64 digits")?))
            }
            None => (rest, None),
        };
        let (name, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
        if name.len() > NAME_BYTES_MAX || !name.split('/').all(is_part) {
            return Err("the name has lower-case letters, digits, and . _ - between them");
        }
        let in_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if tag.is_empty()
            || tag.len() > TAG_BYTES_MAX
            || tag.starts_with(['.', '-'])
            || !tag.bytes().all(in_tag)
        {
            return Err("the tag has letters, digits, and . _ -");
        }
        Ok(Self { host: host.to_owned(), name: name.to_owned(), tag: tag.to_owned(), digest })
    }
}

/// A part of a name: runs of lower-case letters and digits with a separator between each two.
fn is_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separator =
        |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
    part.bytes().next().is_some_and(plain)
        && part.bytes().last().is_some_and(plain)
        && part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(separator)
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", rest.strip_prefix(':').or(rest.is_empty().then_some("443")))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("443")),
        },
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    !name.is_empty()
        && name.bytes().all(plain)
        && port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::super::{digest, is_reference, parse};
    use super::*;

    #[test]
    fn a_place_in_a_registry_is_told_from_a_file() {
        for reference in [
            "registry.example/a:1",
            "localhost:5000/a/b",
            "localhost/a",
            "10.0.0.1:5000/x",
            "[::1]:5/x",
        ] {
            assert!(is_reference(reference), "{reference}");
            assert!(parse(reference).is_ok(), "{reference}");
        }
        for file in ["a.wasm", "./a.wasm", "../x/a.wasm", "/tmp/a.wasm", "target/a.wasm"] {
            assert!(!is_reference(file), "{file}");
        }
        let long = format!("registry.example/a:{}", "x".repeat(129));
        for bad in [
            "registry.example/UPPER:1",
            "registry.example/a@sha256:12",
            "registry.example/",
            "registry.example/a//b",
            "registry.example/a..b",
            "registry.example/-a",
            "registry.example/../a",
            "registry.example/a:b/c",
            "registry.example/a:",
            "registry.example/a:.b",
            "registry.example:0/a",
            "registry.example:70000/a",
            "user@registry.example/a",
            "registry.example?x/a",
            "[::g]:5/a",
            &long,
        ] {
            let text = parse(bad).unwrap_err().to_string();
            assert!(text.contains(bad) && text.contains("HOST[:PORT]/NAME"), "{text}");
        }
    }

    #[test]
    fn a_place_has_a_tag_and_by_digest_none() {
        let place: Place = "registry.example/acme/notify".parse().unwrap();
        assert_eq!(place.to_string(), "registry.example/acme/notify:latest");
        let wanted = digest(b"");
        let by_digest = place.at(&wanted);
        let text = format!("registry.example/acme/notify:1@{wanted}");
        let both: Place = text.parse().unwrap();
        assert_eq!((both.to_string(), both.version()), (by_digest, wanted.to_string()));
    }

    #[test]
    fn only_a_registry_on_this_machine_may_do_without_tls() {
        for (host, own) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.8.8", true),
            ("[::1]:5000", true),
            ("registry.example", false),
            ("10.0.0.1:5000", false),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
        ] {
            let place: Place = format!("{host}/a").parse().unwrap();
            assert_eq!(place.is_loopback(), own, "{host}");
        }
    }
}
