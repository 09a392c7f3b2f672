//! The ranges that Docker was told to take networks from, also those that it has no bridge for
//! yet.

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::Path;

use serde::Deserialize;

const FILE: &str = "/etc/docker/daemon.json";
/// More of the file is not read.
const BYTES_MAX: u64 = 256 * 1024;

/// What is of interest in the file; Docker has many more keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Daemon {
    bip: Option<String>,
    #[serde(rename = "default-address-pools")]
    pools: Option<Vec<Pool>>,
}

#[derive(Debug, Deserialize)]
struct Pool {
    base: String,
}

/// A range with its text, its first and its last address.
pub(super) type Range = (String, u32, u32);

/// The ranges of Docker's file. Without the file there are none; a broken one is told of and taken
/// for none, because Docker does not start with it either.
pub(super) fn pools() -> Vec<Range> {
    let found = match read(Path::new(FILE)) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => Err(error.to_string()),
    };
    found.unwrap_or_else(|why| {
        eprintln!("berth-agent: {FILE} cannot be used, so Docker's ranges are not known: {why}");
        Vec::new()
    })
}

fn read(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    if File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)? as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<Vec<Range>, String> {
    let daemon: Daemon = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let pools = daemon.pools.unwrap_or_default().into_iter().map(|pool| pool.base);
    let ranges = daemon.bip.into_iter().chain(pools);
    // IPv6 is nothing that instances could collide with.
    ranges.filter(|text| !text.contains(':')).map(range).collect()
}

fn range(text: String) -> Result<Range, String> {
    let parts = text.split_once('/').and_then(|(address, bits)| {
        let bits = bits.parse::<u32>().ok().filter(|bits| (1..=32).contains(bits))?;
        Some((address.parse::<Ipv4Addr>().ok()?, u32::MAX << (32 - bits)))
    });
    let (address, mask): (Ipv4Addr, u32) =
        parts.ok_or_else(|| format!("{text:?} is no range of addresses"))?;
    let first = u32::from(address) & mask;
    Ok((text, first, first | !mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_and_the_pools_are_ranges() {
        let text = r#"{
            "bip": "10.200.3.1/24", "log-driver": "local",
            "default-address-pools": [
                { "base": "10.208.0.0/13", "size": 24 }, { "base": "fd00:1::/48", "size": 64 }
            ]
        }"#;
        let ends =
            |first: [u8; 4], last: [u8; 4]| (u32::from_be_bytes(first), u32::from_be_bytes(last));
        let found: Vec<_> = parse(text).unwrap().into_iter().map(|(_, a, b)| (a, b)).collect();
        assert_eq!(
            found,
            [ends([10, 200, 3, 0], [10, 200, 3, 255]), ends([10, 208, 0, 0], [10, 215, 255, 255])]
        );
        assert_eq!(parse("{}").unwrap(), []);
    }

    #[test]
    fn a_file_that_docker_would_not_take_is_told_of() {
        for text in
            ["", "{", r#"{"bip": 7}"#, r#"{"bip": "10.200.0.0"}"#, r#"{"bip": "1.2.3.4/33"}"#]
        {
            parse(text).unwrap_err();
        }
    }
}
