//! nft tables: one on the host, one in the namespace. Everything in them is our own names and
//! numbers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use super::{Links, NAMES_PORT, UPLINK, gateway, inside, name_service, run_lines};
use crate::failure::{Because, Failure};
use crate::machine::Share;

/// Names that one instance may ask for in a second.
const NAMES_PER_S_MAX: u32 = 500;

/// What RFC 1918 and RFC 6598 keep for private networks and between a provider and its customers.
const PRIVATE: &str = "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10";

/// Interfaces of instances begin with this; see `link`.
const INSTANCES: &str = "i*";

fn table(data_id: &str) -> String {
    format!("berth_{data_id}")
}

/// Makes the host's table unless it is there as it should be.
pub(super) fn ensure_on_host(
    share: Share,
    data_id: &str,
    outside: Option<&str>,
    router_ports: &BTreeSet<u16>,
) -> Result<(), Failure> {
    let wanted = host_table(share, data_id, outside, router_ports);
    let mark = mark(&wanted);
    if listed(data_id).is_some_and(|text| text.contains(&mark)) {
        return Ok(());
    }
    let name = table(data_id);
    // Named first, so that deleting it cannot fail; all three are one transaction.
    let lines = format!(
        "table inet {name}\ndelete table inet {name}\n{}",
        wanted.replacen("policy accept;", &format!("policy accept; {mark};"), 1)
    );
    run_lines("nft", &["-f", "-"], &lines)
}

/// A comment that tells this text from any other: what is there is compared by it alone.
fn mark(text: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("comment \"berth {:016x}\"", hasher.finish())
}

fn listed(data_id: &str) -> Option<String> {
    let output = Command::new("nft")
        .args(["list", "table", "inet", &table(data_id)])
        .env_clear()
        .env("PATH", crate::PROGRAM_PATH)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn host_table(
    share: Share,
    data_id: &str,
    outside: Option<&str>,
    router_ports: &BTreeSet<u16>,
) -> String {
    let (name, uplink, base) = (table(data_id), share.interface(), share.network());
    let host = gateway(base);
    let mut text = String::new();
    let mut line = |words: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{words}");
    };
    line(format!("table inet {name} {{"));
    line("  chain input { type filter hook input priority filter; policy accept;".into());
    line(format!("    iifname != \"{uplink}\" accept"));
    line("    ct state established,related accept".into());
    if !router_ports.is_empty() {
        let ports: Vec<String> = router_ports.iter().map(u16::to_string).collect();
        line(format!("    tcp dport {{ {} }} accept", ports.join(", ")));
    }
    line("    drop".into());
    line("  }".into());
    line("  chain forward { type filter hook forward priority filter; policy accept;".into());
    line(format!("    oifname \"{uplink}\" ct state established,related accept"));
    line(format!("    oifname \"{uplink}\" drop"));
    line(format!("    iifname != \"{uplink}\" accept"));
    // What the host would translate to one of its containers is none of an instance's business.
    line("    ct status dnat drop".into());
    match outside {
        Some(outside) => line(format!("    oifname != \"{outside}\" drop")),
        None => line("    drop".into()),
    }
    line("  }".into());
    line("  chain postrouting { type nat hook postrouting priority srcnat; policy accept;".into());
    line(format!("    ip saddr {base}/16 ip saddr != {host} oifname != \"{uplink}\" masquerade"));
    line("  }".into());
    line("}".into());
    text
}

/// Removes the host's table; one that is not there is fine.
pub(super) fn remove_from_host(data_id: &str) -> Result<(), Failure> {
    let name = table(data_id);
    run_lines("nft", &["-f", "-"], &format!("table inet {name}\ndelete table inet {name}\n"))
}

/// Makes the namespace's table anew. Who may talk to whom is put in by `replace_talks`.
pub(super) fn replace_inside(
    namespace: &OwnedFd,
    share: Share,
    private_ranges: bool,
) -> Result<(), Failure> {
    let base = share.network();
    let (host, names) = (gateway(base), name_service(base));
    // Before what is established, so that it counts for connections that are there, too.
    let private = if private_ranges {
        String::new()
    } else {
        format!(
            "iifname \"{INSTANCES}\" oifname \"{UPLINK}\" ip daddr != {host} \
             ip daddr {{ {PRIVATE} }} drop"
        )
    };
    // An instance that floods the name service is held back here, where it costs the router
    // nothing. That comes before what is established, or one source port would have no bound.
    let lines = format!(
        "table inet berth\n\
         delete table inet berth\n\
         table inet berth {{\n\
         \x20 set talks {{ type ipv4_addr . ipv4_addr; }}\n\
         \x20 set links {{ type ipv4_addr . ipv4_addr . inet_service; }}\n\
         \x20 set askers {{ type ipv4_addr; size 65536; flags dynamic,timeout; timeout 10s; }}\n\
         \x20 chain input {{ type filter hook input priority filter; policy drop;\n\
         \x20   iifname \"{INSTANCES}\" ip daddr {names} udp dport {NAMES_PORT} update @askers \
             {{ ip saddr limit rate over {NAMES_PER_S_MAX}/second burst {NAMES_PER_S_MAX} packets }} drop\n\
         \x20   iifname \"{INSTANCES}\" ip daddr {names} meta l4proto {{ tcp, udp }} th dport {NAMES_PORT} accept\n\
         \x20   ct state established,related accept\n\
         \x20   iifname \"lo\" accept\n\
         \x20 }}\n\
         \x20 chain forward {{ type filter hook forward priority filter; policy drop;\n\
         \x20   {private}\n\
         \x20   ct state established,related accept\n\
         \x20   iifname \"{UPLINK}\" ip saddr {host} oifname \"{INSTANCES}\" accept\n\
         \x20   iifname \"{INSTANCES}\" oifname \"{INSTANCES}\" ip saddr . ip daddr @talks accept\n\
         \x20   iifname \"{INSTANCES}\" oifname \"{INSTANCES}\" ip saddr . ip daddr . tcp dport @links accept\n\
         \x20   iifname \"{INSTANCES}\" oifname \"{UPLINK}\" ip daddr {host} accept\n\
         \x20   ip daddr {{ {base}/16, 169.254.0.0/16, 127.0.0.0/8, 0.0.0.0/8, 224.0.0.0/3 }} drop\n\
         \x20   iifname \"{INSTANCES}\" oifname \"{UPLINK}\" ip saddr {base}/16 accept\n\
         \x20 }}\n\
         }}\n"
    );
    inside(namespace, move || run_lines("nft", &["-f", "-"], &lines))?
}

/// Every ordered pair within each group, the links, and no other.
pub(super) fn replace_talks(
    namespace: &OwnedFd,
    groups: &[Vec<Ipv4Addr>],
    links: &Links,
) -> Result<(), Failure> {
    let mut lines = String::from("flush set inet berth talks\nflush set inet berth links\n");
    for (from, to, port) in links {
        let _ = writeln!(lines, "add element inet berth links {{ {from} . {to} . {port} }}");
    }
    for group in groups.iter().filter(|group| group.len() > 1) {
        let pairs: Vec<String> = group
            .iter()
            .flat_map(|a| group.iter().filter(move |b| a != *b).map(move |b| format!("{a} . {b}")))
            .collect();
        let _ = writeln!(lines, "add element inet berth talks {{ {} }}", pairs.join(", "));
    }
    inside(namespace, move || run_lines("nft", &["-f", "-"], &lines))?
        .because(|| "saying which instances may talk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_table_opens_the_routers_ports_only() {
        let text = host_table(Share::new(3, None), "0123", Some("eth0"), &BTreeSet::from([8080]));
        assert!(text.contains("tcp dport { 8080 } accept\n    drop"), "{text}");
        assert!(text.contains("oifname != \"eth0\" drop"), "{text}");
        let none = host_table(Share::new(3, None), "0123", None, &BTreeSet::new());
        assert!(!none.contains("dport"), "{none}");
    }
}
