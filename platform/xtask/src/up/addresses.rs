//! Where the platform listens, and whether it can.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The three listeners, all of them on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The router.
    pub(crate) http: SocketAddrV4,
    /// The API, and git over HTTP.
    pub(crate) api: SocketAddrV4,
    /// git over SSH.
    pub(crate) ssh: SocketAddrV4,
}

const fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

impl Default for Addresses {
    fn default() -> Self {
        Self { http: local(8080), api: local(8081), ssh: local(2222) }
    }
}

impl Addresses {
    /// Reads `--http PORT`, `--api PORT` and `--ssh PORT`.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut addresses = Self::default();
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            let place = match *option {
                "--http" => &mut addresses.http,
                "--api" => &mut addresses.api,
                "--ssh" => &mut addresses.ssh,
                other => bail!("there is no option '{other}'; there are --http, --api and --ssh"),
            };
            let port = rest.next().with_context(|| format!("{option} needs a port"))?;
            *place = match port.parse() {
                Ok(port @ 1..) => local(port),
                _ => bail!("{option} needs a port from 1 to 65535, not '{port}'"),
            };
        }
        Ok(addresses)
    }

    /// Refuses where somebody else listens, and says who and what to do.
    pub(crate) fn check(&self, data: &str) -> Result<()> {
        if matches!(get(self.api, "localhost", "/healthz"), Ok(200)) {
            bail!(
                "a platform answers on {} already. Is it another `cargo xtask up`? End it there with \
                 Ctrl-C; or stop it with `berthd down --data {data}` as root",
                self.api
            );
        }
        // The router of a platform that was killed goes on, and is found again on its port.
        let router_goes_on = is_router(self.http) && std::path::Path::new(data).join("id").exists();
        for (option, address) in [("--api", self.api), ("--ssh", self.ssh), ("--http", self.http)] {
            if option == "--http" && router_goes_on {
                continue;
            }
            if let Err(error) = TcpListener::bind(address) {
                bail!(
                    "cannot listen on {address}: {error}{}. End that program, or choose another port: \
                     cargo xtask up {option} PORT",
                    holder(address)
                );
            }
        }
        Ok(())
    }
}

/// Who listens there, as far as this user may know.
fn holder(address: SocketAddrV4) -> String {
    let asked = ["-Hltnp", "sport", "=", &format!(":{}", address.port())];
    let found = shell::capture(shell::command("ss").args(asked)).unwrap_or_default();
    let users = found.split("users:((").nth(1).and_then(|users| users.split("))").next());
    let mut parts = users.unwrap_or_default().split(',');
    match (parts.next(), parts.next()) {
        (Some(name), Some(pid)) => format!(" ({}, {pid})", name.trim_matches('"')),
        _ => String::new(),
    }
}

/// Whether Berth's router listens there: it marks the answers that it makes itself.
fn is_router(address: SocketAddrV4) -> bool {
    head(address, "berth.invalid", "/")
        .is_ok_and(|head| head.to_ascii_lowercase().contains("\r\nx-router-error:"))
}

/// The status of a GET.
pub(crate) fn get(address: SocketAddrV4, host: &str, path: &str) -> Result<u16> {
    let head = head(address, host, path)?;
    head.get(9..12).unwrap_or_default().parse().context("no status in the answer")
}

/// The head of the answer to a GET.
fn head(address: SocketAddrV4, host: &str, path: &str) -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(10);
    const BYTES_MAX: u64 = 4096;
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(address), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // An end that comes too late or with a reset does not change the head.
    let read = stream.take(BYTES_MAX).read_to_end(&mut answer);
    if answer.is_empty() {
        read.context("no answer")?;
    }
    let text = String::from_utf8_lossy(&answer);
    Ok(text.split("\r\n\r\n").next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_anything_else_is_refused_by_name() {
        let addresses = Addresses::parse(&["--http", "9000", "--ssh", "9022"]).unwrap();
        assert_eq!(addresses.http, local(9000));
        assert_eq!(addresses.api, Addresses::default().api);
        assert_eq!(addresses.ssh, local(9022));
        for (wrong, named) in [
            (&["--htp", "9000"][..], "--htp"),
            (&["--http"], "--http"),
            (&["--http", "0"], "'0'"),
            (&["--api", "localhost:1"], "localhost:1"),
        ] {
            let refused = Addresses::parse(wrong).unwrap_err().to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_option_and_holder() {
        let taken = TcpListener::bind(local(0)).unwrap();
        let SocketAddr::V4(address) = taken.local_addr().unwrap() else { panic!("not IPv4") };
        let free = || {
            let bound = TcpListener::bind(local(0)).unwrap().local_addr().unwrap();
            local(bound.port())
        };
        let addresses = Addresses { http: free(), api: free(), ssh: address };
        let refused = addresses.check("/nonexistent").unwrap_err().to_string();
        assert!(refused.contains(&address.to_string()), "{refused}");
        assert!(refused.contains("cargo xtask up --ssh PORT"), "{refused}");
    }
}
