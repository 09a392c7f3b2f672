//! A machine of its own for one test: its network and its mounts, so that what the test does to
//! routes, firewalls and `/etc/resolv.conf` never reaches the machine that it runs on.
//!
//! The calling thread enters it, and so does whatever that thread starts. One interface, `up0`,
//! leads to an outside, another namespace, where a service answers every connection with the address
//! it came from, on public and private addresses and on the metadata address. Needs root.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The machine's address on `up0`.
pub const MACHINE: &str = "198.51.100.2";
/// The outside's end of `up0`, the next hop of the default route.
pub const NEXT_HOP: &str = "198.51.100.1";
/// A public host, by way of the default route.
pub const PUBLIC: &str = "203.0.113.9";
/// A private host, by way of the default route.
pub const PRIVATE: &str = "10.55.0.1";
/// Where clouds serve what a machine knows about itself.
pub const METADATA: &str = "169.254.169.254";
/// A host in a network of the machine's second interface.
pub const NEIGHBOUR: &str = "192.168.77.2";
/// The machine's address on its second interface.
pub const SECOND: &str = "192.168.77.1";
/// The port of the outside's service.
pub const PORT: u16 = 8888;

/// The scene; the outside's service ends with it.
pub struct Scene {
    outside: OwnedFd,
    listener: OwnedFd,
    service: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

/// Runs a program, which must succeed.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn must(words: &str) -> String {
    let mut parts = words.split_whitespace();
    let output = Command::new(parts.next().expect("a program")).args(parts).output();
    let output = output.unwrap_or_else(|error| panic!("{words}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The calling thread's network namespace.
fn own_namespace() -> OwnedFd {
    fs::File::open("/proc/thread-self/ns/net").expect("a namespace").into()
}

#[expect(unsafe_code, reason = "only the calling thread changes, and nothing is shared with it")]
fn unshare(flags: UnshareFlags) {
    unsafe { unshare_unsafe(flags) }.expect("tests with namespaces need root");
}

impl Scene {
    /// Makes one; the calling thread is in it from now on.
    ///
    /// # Panics
    /// When the machine refuses.
    pub fn enter() -> Self {
        let outside = std::thread::spawn(|| {
            unshare(UnshareFlags::NEWNET);
            own_namespace()
        });
        let outside = outside.join().expect("a namespace");
        unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS);
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", flags).expect("mounts of its own");
        // As on a new machine: Docker closes FORWARD only where it is the first that forwards.
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("a setting");
        let other = format!("/proc/{}/fd/{}", std::process::id(), outside.as_raw_fd());
        for line in [
            "ip link set lo up".to_owned(),
            format!("ip link add up0 type veth peer name out0 netns {other}"),
            format!("ip link add second type veth peer name out1 netns {other}"),
            format!("ip addr add {MACHINE}/24 dev up0"),
            format!("ip addr add {SECOND}/24 dev second"),
            "ip link set up0 up".to_owned(),
            "ip link set second up".to_owned(),
            format!("ip route add default via {NEXT_HOP} dev up0"),
        ] {
            must(&line);
        }
        let listener = within(&outside, || {
            for line in [
                "ip link set lo up".to_owned(),
                format!("ip addr add {NEXT_HOP}/24 dev out0"),
                format!("ip addr add {NEIGHBOUR}/24 dev out1"),
                format!("ip addr add {PUBLIC}/32 dev lo"),
                format!("ip addr add {PRIVATE}/32 dev lo"),
                format!("ip addr add {METADATA}/32 dev lo"),
                "ip link set out0 up".to_owned(),
                "ip link set out1 up".to_owned(),
            ] {
                must(&line);
            }
            TcpListener::bind(("0.0.0.0", PORT)).expect("the outside's service")
        });
        let kept = listener.as_fd().try_clone_to_owned().expect("a descriptor");
        let service = std::thread::spawn(move || {
            // Ends when the listener is shut down.
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(format!("you are {}\n", peer.ip()).as_bytes());
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        Self { outside, listener: kept, service: Some(service), folder }
    }

    /// Works in the outside's network, on a thread of its own.
    pub fn outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.outside, work)
    }

    /// Puts another file in the place of `/etc/NAME`, in this scene alone.
    ///
    /// # Panics
    /// When the machine refuses.
    pub fn put_etc(&self, name: &str, text: &str) {
        let file = self.folder.path().join(name);
        let there = file.exists();
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        // The same file again: what was mounted shows the new text.
        fs::write(&file, text).expect("a file");
        if !there {
            let place = fs::canonicalize(format!("/etc/{name}")).expect("a file to put it over");
            mount_bind(&file, &place).expect("a mount");
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(service) = self.service.take() {
            let _ = service.join();
        }
    }
}

fn within<T: Send>(namespace: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the namespace");
            work()
        });
        worker.join().expect("work in a namespace")
    })
}

/// What a service says to the machine itself; nothing when it cannot be reached.
pub fn hear(address: &str, port: u16) -> Option<String> {
    let address = SocketAddr::new(address.parse().ok()?, port);
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A shell line that says whether a TCP connection comes to stand. busybox and the stack have no
/// common client but the shell's own words, so `nc` is busybox's.
pub fn probe(name: &str, address: impl std::fmt::Display, port: u16) -> String {
    format!(
        "if nc -w 2 {address} {port} < /dev/null > /dev/null 2>&1; then echo {name}=open; else echo {name}=closed; fi; "
    )
}
