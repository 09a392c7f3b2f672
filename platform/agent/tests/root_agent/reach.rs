//! Who reaches whom, on a machine with networks, firewalls and an outside of its own.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use berth_container::{Program, Request};
use berth_model::InstanceId;

use crate::life::{SERVER, answers, get};
use crate::platform::{Platform, app, eventually};
use crate::scene::{
    METADATA, NEIGHBOUR, NEXT_HOP, PORT, PRIVATE, PUBLIC, SECOND, Scene, hear, must, probe,
};

/// What an instance hears from a service.
async fn heard_by(platform: &Platform, instance: InstanceId, address: &str, port: u16) -> String {
    let script = format!("nc -w 2 {address} {port} < /dev/null 2>&1");
    platform.exec(instance, &script).await.1
}

/// Waits until an instance gets out: what others removed from the host is put back.
async fn gets_out(platform: &Platform, instance: InstanceId) {
    let deadline = std::time::Instant::now() + *crate::platform::PATIENCE;
    while !heard_by(platform, instance, PUBLIC, PORT).await.contains("you are ") {
        assert!(std::time::Instant::now() < deadline, "the way out is not put back");
    }
}

/// A service on every address of the scene's machine, which closes each connection.
struct Service {
    listener: TcpListener,
    port: u16,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = listener.try_clone().unwrap();
        // Ends when the listener is shut down.
        std::thread::spawn(move || while accepting.accept().is_ok() {});
        Self { listener, port }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

fn gateway(instance: Ipv4Addr) -> Ipv4Addr {
    let [a, b, ..] = instance.octets();
    Ipv4Addr::new(a, b, 0, 1)
}

#[tokio::test]
async fn an_instance_gets_out_by_the_default_route_as_the_machine_itself() {
    let _scene = Scene::enter();
    let platform = Platform::new();
    let started = platform.instance(app(1), "sleep 600").await;
    for host in [PUBLIC, PRIVATE, NEXT_HOP] {
        let text = heard_by(&platform, started.instance, host, PORT).await;
        assert_eq!(text, format!("you are {}\n", crate::scene::MACHINE), "{host}");
    }
}

#[tokio::test]
async fn metadata_and_the_networks_of_other_interfaces_are_out_of_reach() {
    let _scene = Scene::enter();
    let platform = Platform::new();
    let service = Service::start();
    let script = probe("public", PUBLIC, PORT)
        + &probe("metadata", METADATA, PORT)
        + &probe("neighbour", NEIGHBOUR, PORT)
        + &probe("second", SECOND, service.port)
        + &probe("machine", crate::scene::MACHINE, service.port);
    let (_, text) = platform.script(|_| {}, &script).await;
    // The machine reaches all of them, so it is the platform that keeps the instance away.
    for host in [METADATA, NEIGHBOUR] {
        assert!(hear(host, PORT).is_some(), "{host} is not there at all");
    }
    assert_eq!(
        text.lines().filter(|line| line.contains('=')).collect::<Vec<_>>(),
        ["public=open", "metadata=closed", "neighbour=closed", "second=closed", "machine=closed"]
    );
}

#[tokio::test]
async fn of_the_machines_own_ports_an_instance_reaches_the_routers_alone() {
    let _scene = Scene::enter();
    let platform = Platform::new();
    let (other, router) = (Service::start(), Service::start());
    let started = platform.instance(app(1), "sleep 600").await;
    let gateway = gateway(started.address.unwrap());
    let look = probe("router", gateway, router.port) + &probe("other", gateway, other.port);
    let (_, before) = platform.exec(started.instance, &look).await;
    assert!(before.contains("router=closed") && before.contains("other=closed"), "{before}");
    // What the program is does not matter: it is the listener that opens the port.
    std::fs::copy("/bin/true", platform.data.join("bin/test/berthd")).unwrap();
    let control = UnixListener::bind(platform.data.join("control.sock")).unwrap();
    let listeners: [OwnedFd; 2] = [control.into(), router.listener.try_clone().unwrap().into()];
    platform.call(&Request::Worker { program: Program::Route }, &listeners).await.unwrap();
    let (_, after) = platform.exec(started.instance, &look).await;
    assert!(after.contains("router=open") && after.contains("other=closed"), "{after}");
}

#[tokio::test]
async fn what_others_remove_from_the_machine_is_put_back() {
    let _scene = Scene::enter();
    let platform = Platform::new();
    let service = Service::start();
    let started = platform.instance(app(1), "sleep 600").await;
    gets_out(&platform, started.instance).await;
    let host = probe("host", gateway(started.address.unwrap()), service.port);
    for (what, removal) in [
        // As Docker does when it starts.
        ("a policy", "iptables -P FORWARD DROP"),
        ("the pair", "iptables -F FORWARD"),
        ("every rule", "nft flush ruleset"),
        ("forwarding", "sysctl -q -w net.ipv4.conf.up0.forwarding=0"),
    ] {
        must(removal);
        if what == "every rule" {
            must("iptables -P FORWARD DROP");
        }
        gets_out(&platform, started.instance).await;
        let (_, text) = platform.exec(started.instance, &host).await;
        assert!(text.contains("host=closed"), "after {what} was removed: {text}");
    }
}

#[tokio::test]
async fn platforms_side_by_side_do_not_reach_each_other_and_end_alone() {
    let _scene = Scene::enter();
    let (one, mut other) = (Platform::new(), Platform::new());
    let a = one.instance(app(1), SERVER).await;
    let b = other.instance(app(1), SERVER).await;
    let (a_at, b_at) = (a.address.unwrap(), b.address.unwrap());
    answers(a_at).await;
    answers(b_at).await;
    let service = Service::start();
    for (platform, from, to) in [(&one, &a, b_at), (&other, &b, a_at)] {
        let look = probe("instance", to, 5000) + &probe("gateway", gateway(to), service.port);
        let (_, text) = platform.exec(from.instance, &look).await;
        assert!(text.contains("instance=closed") && text.contains("gateway=closed"), "{text}");
    }
    other.down().await;
    assert!(get(a_at).unwrap().contains("hello"));
    gets_out(&one, a.instance).await;
    let (_, text) = one.exec(a.instance, &probe("host", gateway(a_at), service.port)).await;
    assert!(text.contains("host=closed"), "{text}");
}

/// What a machine's network consists of, without its counters.
fn machine() -> String {
    let links = must("ip -brief link");
    let links: Vec<_> = links.lines().map(|line| line.split(['@', ' ']).next()).collect();
    let (routes, rules) = (must("ip -4 route show table all"), must("iptables -S"));
    let nat = must("iptables -t nat -S");
    let tables = must("nft list tables inet");
    format!("{links:?}\n{routes}{rules}{nat}{tables}")
}

#[tokio::test]
async fn the_machines_network_is_afterwards_as_it_was() {
    let _scene = Scene::enter();
    let before = machine();
    let mut platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    answers(started.address.unwrap()).await;
    gets_out(&platform, started.instance).await;
    assert_ne!(machine(), before);
    platform.down().await;
    assert_eq!(machine(), before);
}

#[tokio::test]
async fn without_its_namespace_nothing_of_the_instances_network_is_left() {
    let _scene = Scene::enter();
    let mut platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    answers(started.address.unwrap()).await;
    let uplink = format!("berth{}", started.address.unwrap().octets()[1] - 200);
    assert!(must("ip -brief link").contains(&uplink));
    platform.stop(started.instance, 0).await.unwrap();
    platform.kill_agent();
    must(&format!("umount {}", platform.run().join("net").display()));
    let gone = || !must("ip -brief link").contains(&uplink) && !must("ip route").contains(&uplink);
    eventually("interface and route went with the namespace", gone).await;
}

#[tokio::test]
async fn addresses_that_the_machine_routes_elsewhere_are_not_taken() {
    let _scene = Scene::enter();
    // All that a platform may take lies in 10.200.0.0 to 10.223.255.255.
    must("ip route add 10.200.0.0/13 dev second");
    must("ip route add 10.208.0.0/13 dev second");
    must("ip route add 10.216.0.0/14 dev second");
    must("ip route add 10.220.0.0/15 dev second");
    must("ip route add 10.222.0.0/16 dev second");
    let mut platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    assert_eq!(started.address.unwrap().octets()[..2], [10, 223]);
    platform.down().await;
    std::fs::remove_file(platform.data.join("id")).unwrap();
    std::fs::write(platform.data.join("id"), "00000000000000aa").unwrap();
    must("ip route add 10.223.7.0/24 dev second");
    let output = Command::new(platform.data.join("bin/test/berth-agent"))
        .args(["serve", "--data"])
        .arg(&platform.data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("no free index"), "{said}");
}

#[tokio::test]
async fn an_instance_has_no_ipv6_but_its_own_loopback() {
    let _scene = Scene::enter();
    let platform = Platform::new();
    let script = "ip -6 -o addr; ip -6 route; (nc -l -p 4000 < /dev/null &); \
                  until nc -w 1 ::1 4000 < /dev/null; do :; done; echo six";
    let (_, text) = platform.script(|_| {}, script).await;
    assert!(text.contains("six") && text.contains("::1"), "{text}");
    assert!(!text.contains("eth0") && !text.contains("fe80"), "{text}");
    let net = format!("nsenter --net={} ip -6 -o addr", platform.run().join("net").display());
    assert!(!must(&net).contains("fe80"), "the namespace of instances has IPv6: {}", must(&net));
    let links = must("ip -6 -o addr");
    assert!(!links.contains("berth"), "the uplink has IPv6: {links}");
}

/// The first two bytes of a /16 that no other test has, neither at the same time nor as what a
/// killed one left in the machine's registry.
fn own_range() -> [u8; 2] {
    [10, 64 + u8::try_from(std::process::id() % 128).unwrap()]
}

/// What an agent says that does not start with this range.
#[track_caller]
fn refusal(platform: &Platform, range: &str) -> String {
    let mut child = Command::new(platform.data.join("bin/test/berth-agent"))
        .args(["serve", "--data"])
        .arg(&platform.data)
        .args(["--network", range])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // One that says `ready` would go on.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(line, "", "{range} was taken: {said}");
    assert!(!platform.run().exists(), "{range} left something");
    said
}

#[tokio::test]
async fn the_operators_range_is_taken_and_stays_while_instances_run_in_it() {
    let _scene = Scene::enter();
    let [a, b] = own_range();
    let range = format!("{a}.{b}.0.0/16");
    let mut platform = Platform::with(&["--network", &range]);
    let started = platform.instance(app(1), SERVER).await;
    assert_eq!(started.address.unwrap().octets()[..2], [a, b]);
    answers(started.address.unwrap()).await;
    gets_out(&platform, started.instance).await;
    // Another route or another wish: what runs goes on as it is.
    must(&format!("ip route add {a}.{b}.7.0/24 dev second"));
    for options in [vec!["--network".to_owned(), "172.30.0.0/16".to_owned()], Vec::new()] {
        platform.kill_agent();
        platform.options = options;
        platform.begin();
        assert!(get(started.address.unwrap()).unwrap().contains("hello"));
        let next = platform.instance(app(1), SERVER).await;
        assert_eq!(next.address.unwrap().octets()[..2], [a, b]);
    }
    platform.down().await;
    // Nothing runs: another wish counts.
    platform.begin();
    let started = platform.instance(app(1), SERVER).await;
    assert!((200..224).contains(&started.address.unwrap().octets()[1]), "{:?}", started.address);
}

#[tokio::test]
async fn a_range_that_overlaps_a_route_a_pool_of_docker_or_another_platform_is_refused_by_name() {
    let _scene = Scene::enter();
    let [a, b] = own_range();
    let range = format!("{a}.{b}.0.0/16");
    let (mut platform, other) = (Platform::new(), Platform::with(&["--network", &range]));
    platform.down().await;
    let said = refusal(&platform, &range);
    let theirs = format!("{range} overlaps the platform in {}", other.data.display());
    assert!(said.contains(&theirs), "{said}");
    let said = refusal(&platform, "192.168.0.0/16");
    let route = "192.168.0.0/16 overlaps the route 192.168.77.0/24 by second";
    assert!(said.contains(route), "{said}");
    // An /etc of this scene alone.
    must("mount -t tmpfs scene /mnt");
    must("mkdir -p /mnt/upper /mnt/work");
    must("mount -t overlay scene -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc");
    std::fs::create_dir_all("/etc/docker").unwrap();
    let docker = r#"{"bip": "172.30.9.1/24",
        "default-address-pools": [{"base": "10.200.0.0/13", "size": 24}]}"#;
    std::fs::write("/etc/docker/daemon.json", docker).unwrap();
    let said = refusal(&platform, "172.30.0.0/16");
    assert!(said.contains("172.30.0.0/16 overlaps Docker's configuration"), "{said}");
    let said = refusal(&platform, "10.205.0.0/16");
    assert!(said.contains("which has 10.200.0.0/13"), "{said}");
    // Without a wish, a new platform keeps off Docker's pools, too.
    let third = Platform::new();
    let started = third.instance(app(1), SERVER).await;
    assert!((208..224).contains(&started.address.unwrap().octets()[1]), "{:?}", started.address);
    // A file that Docker does not take keeps no platform from its start, nor does one that is gone.
    drop(other);
    std::fs::write("/etc/docker/daemon.json", "{").unwrap();
    platform.options = vec!["--network".to_owned(), range];
    platform.begin();
}

#[tokio::test]
async fn without_private_ranges_an_instance_gets_out_to_public_hosts_alone() {
    let _scene = Scene::enter();
    let mut platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    let same = platform.instance(app(1), SERVER).await;
    answers(started.address.unwrap()).await;
    answers(same.address.unwrap()).await;
    let router = Service::start();
    std::fs::copy("/bin/true", platform.data.join("bin/test/berthd")).unwrap();
    let control = UnixListener::bind(platform.data.join("control.sock")).unwrap();
    let listeners: [OwnedFd; 2] = [control.into(), router.listener.try_clone().unwrap().into()];
    platform.call(&Request::Worker { program: Program::Route }, &listeners).await.unwrap();
    let look = probe("public", PUBLIC, PORT)
        + &probe("private", PRIVATE, PORT)
        + &probe("same", same.address.unwrap(), 5000)
        + &probe("router", gateway(started.address.unwrap()), router.port);
    for (options, private) in [
        (vec![], "private=open"),
        (vec!["--no-private-ranges".to_owned()], "private=closed"),
        (vec![], "private=open"),
    ] {
        platform.kill_agent();
        platform.options = options;
        platform.begin();
        let (_, text) = platform.exec(started.instance, &look).await;
        let said: Vec<_> = text.lines().collect();
        assert_eq!(said, ["public=open", private, "same=open", "router=open"]);
        assert!(get(started.address.unwrap()).unwrap().contains("hello"));
    }
}
