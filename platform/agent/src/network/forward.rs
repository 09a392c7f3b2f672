//! Gets packets of instances through the host: forwarding on two interfaces, and a pair of rules
//! in iptables' FORWARD chain, whose policy Docker and firewalls set to DROP. An accept in our own
//! nft table does not override that, at any priority.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{Because, Failure};

/// The interface of the default route with the lowest metric.
pub(super) fn default_interface() -> Option<String> {
    let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
    parse_default(&table)
}

fn parse_default(table: &str) -> Option<String> {
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 7 && fields[1] == "00000000" && fields[7] == "00000000")
        .min_by_key(|fields| fields[6].parse::<u32>().unwrap_or(u32::MAX))
        .map(|fields| fields[0].to_owned())
        .filter(|name| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@'))
        })
}

/// Switches forwarding on for the two interfaces alone, not for the whole host.
pub(super) fn allow(uplink: &str, outside: &str) -> Result<(), Failure> {
    for interface in [uplink, outside] {
        let path = Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding");
        let now = fs::read_to_string(&path).because(|| format!("reading {}", path.display()))?;
        if now.trim() != "1" {
            fs::write(&path, "1").because(|| format!("setting {}", path.display()))?;
        }
    }
    Ok(())
}

/// The iptables programs whose FORWARD chain is in use here; where there is none, the one that
/// Docker would use when it is started later, so that its DROP finds our pair in place.
fn programs() -> Vec<&'static str> {
    let mut found = Vec::new();
    let legacy = fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if legacy.lines().any(|table| table == "filter") {
        found.push("iptables-legacy");
    }
    if quietly("nft", &["list", "chain", "ip", "filter", "FORWARD"]) {
        found.push("iptables-nft");
    }
    if found.is_empty() && quietly("iptables", &["-w", "-S", "FORWARD"]) {
        found.push("iptables");
    }
    found
}

/// Puts the pair first in each FORWARD chain that is in use, unless it is there.
pub(super) fn ensure_pair(uplink: &str, outside: &str, data_id: &str) -> Result<(), Failure> {
    for program in programs() {
        for rule in pair(uplink, outside, data_id) {
            let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
            if quietly(program, &[&["-w", "-C", "FORWARD"], rule.as_slice()].concat()) {
                continue;
            }
            if !quietly(program, &[&["-w", "-I", "FORWARD"], rule.as_slice()].concat()) {
                return Err(Failure::machine(format!(
                    "{program} refused the rule that lets instances out through {outside}"
                )));
            }
        }
    }
    Ok(())
}

/// Removes every rule of ours, whatever the default interface was when it was made.
pub(super) fn remove_pair(uplink: &str, data_id: &str) -> Result<(), Failure> {
    let comment = format!("berth_{data_id}");
    for program in programs() {
        let output = Command::new(program)
            .args(["-w", "-S", "FORWARD"])
            .env_clear()
            .env("PATH", crate::PROGRAM_PATH)
            .stdin(Stdio::null())
            .output()
            .because(|| format!("starting {program}"))?;
        let rules = String::from_utf8_lossy(&output.stdout).into_owned();
        for rule in rules.lines().filter(|rule| rule.contains(&comment) && rule.contains(uplink)) {
            let words = rule.split_whitespace().map(|word| word.trim_matches('"'));
            let delete: Vec<&str> = ["-w", "-D"].into_iter().chain(words.skip(1)).collect();
            if !quietly(program, &delete) {
                return Err(Failure::machine(format!("{program} does not remove: {rule}")));
            }
        }
    }
    Ok(())
}

fn pair(uplink: &str, outside: &str, data_id: &str) -> [Vec<String>; 2] {
    let words = |text: String| text.split(' ').map(str::to_owned).collect();
    [
        words(format!("-i {uplink} -o {outside} -m comment --comment berth_{data_id} -j ACCEPT")),
        words(format!(
            "-i {outside} -o {uplink} -m conntrack --ctstate RELATED,ESTABLISHED \
             -m comment --comment berth_{data_id} -j ACCEPT"
        )),
    ]
}

fn quietly(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", crate::PROGRAM_PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric_counts() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                     wlan0 00000000 0100A8C0 0003 0 0 600 00000000 0 0 0\n\
                     eth0 00000000 0100A8C0 0003 0 0 100 00000000 0 0 0\n\
                     eth0 0000A8C0 00000000 0001 0 0 100 00FFFFFF 0 0 0\n";
        assert_eq!(parse_default(table).as_deref(), Some("eth0"));
        assert_eq!(parse_default("head\n"), None);
    }
}
