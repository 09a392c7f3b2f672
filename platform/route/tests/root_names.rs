//! The name service against a real name server. Needs root, for port 53, and dnsmasq.
//!
//! Loopback stands for the network of instances: the service is at 127.N.0.2, instances are
//! 127.N.1.0 and up.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use berth_route::names::{self, NameSettings, NameSockets};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);
const A: u16 = 1;
const TXT: u16 = 16;

/// A network that no other test of this machine uses at the same time.
fn network() -> [u8; 2] {
    static NUMBER: AtomicU8 = AtomicU8::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mix = (std::process::id() as u8).wrapping_mul(7).wrapping_add(number);
    [127, 1 + mix % 250]
}

fn server_address(net: [u8; 2]) -> Ipv4Addr {
    Ipv4Addr::new(net[0], net[1], 0, 53)
}

struct Server(Child);

impl Server {
    /// dnsmasq with one name, `host.example`, and one long text, `long.example`.
    fn start(at: Ipv4Addr, answer: &str) -> Self {
        let mut command = Command::new("dnsmasq");
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
            .args(["--bind-interfaces", "--pid-file=", "--user=root", "--no-daemon"])
            .arg(format!("--listen-address={at}"))
            .arg(format!("--host-record=host.example,{answer}"));
        for number in 0..12 {
            command.arg(format!("--txt-record=long.example,{}", format!("{number:03}").repeat(60)));
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((at, 53)).is_err() {
            assert!(Instant::now() < deadline, "dnsmasq does not listen on {at}");
            std::thread::yield_now();
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The service on a runtime of its own.
struct Service {
    address: SocketAddr,
    file: PathBuf,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Service {
    fn start(net: [u8; 2], servers: &[Ipv4Addr], change: impl FnOnce(&mut NameSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        write(&file, servers);
        let mut settings = NameSettings { resolv_conf: file.clone(), ..NameSettings::default() };
        change(&mut settings);
        let streams = TcpListener::bind((Ipv4Addr::new(net[0], net[1], 0, 2), 0)).unwrap();
        let address = streams.local_addr().unwrap();
        let datagrams = UdpSocket::bind(address).unwrap();
        let sockets = NameSockets { datagrams: datagrams.into(), streams: streams.into() };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(names::serve(settings, sockets, |_| None, stopped)).unwrap();
        });
        Self { address, file, stop, thread: Some(thread), _folder: folder }
    }

    fn end(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(file: &Path, servers: &[Ipv4Addr]) {
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, lines).unwrap();
    std::fs::rename(&fresh, file).unwrap();
}

fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut text = id.to_be_bytes().to_vec();
    text.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        text.push(label.len() as u8);
        text.extend(label.as_bytes());
    }
    text.push(0);
    text.extend(kind.to_be_bytes());
    text.extend([0, 1]);
    text
}

/// An instance's socket.
fn instance(net: [u8; 2], number: u8, wait: Duration) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(net[0], net[1], 1, number), 0)).unwrap();
    socket.set_read_timeout(Some(wait)).unwrap();
    socket
}

/// Asks by UDP: the answer, if one comes.
fn ask(service: &Service, socket: &UdpSocket, name: &str, kind: u16) -> Option<Vec<u8>> {
    socket.send_to(&query(0x1234, name, kind), service.address).unwrap();
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    assert_eq!((from, &buffer[..2]), (service.address, &[0x12, 0x34][..]));
    buffer.truncate(length);
    Some(buffer)
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 0xf
}

fn is_truncated(answer: &[u8]) -> bool {
    answer[2] & 2 != 0
}

#[test]
fn an_instance_gets_what_the_hosts_server_says_and_nobody_else_gets_anything() {
    let net = network();
    let _server = Server::start(server_address(net), "192.0.2.17");
    let service = Service::start(net, &[server_address(net)], |_| {});
    let answer = ask(&service, &instance(net, 0, PATIENCE), "host.example", A).unwrap();
    assert!(code(&answer) == 0 && answer.ends_with(&[192, 0, 2, 17]), "{answer:?}");
    // The same query, of an address that is no instance's: never answered, while one that was sent
    // after it is.
    let stranger = UdpSocket::bind((Ipv4Addr::new(net[0], net[1], 0, 9), 0)).unwrap();
    stranger.send_to(&query(1, "host.example", A), service.address).unwrap();
    assert!(ask(&service, &instance(net, 1, PATIENCE), "host.example", A).is_some());
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.recv(&mut [0; 512]).is_err(), "a stranger was answered");
}

#[test]
fn a_long_answer_is_truncated_and_comes_whole_over_tcp() {
    let net = network();
    let _server = Server::start(server_address(net), "192.0.2.17");
    let service = Service::start(net, &[server_address(net)], |_| {});
    let answer = ask(&service, &instance(net, 0, PATIENCE), "long.example", TXT).unwrap();
    assert!(is_truncated(&answer) && answer.len() <= 512, "{} bytes", answer.len());
    let mut stream = connect_from(net, 0, service.address);
    // Two on one connection.
    for _ in 0..2 {
        let answer = over_tcp(&mut stream, "long.example", TXT).unwrap();
        assert!(!is_truncated(&answer) && answer.len() > 12 * 180, "{} bytes", answer.len());
    }
}

fn connect_from(net: [u8; 2], number: u8, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::from((Ipv4Addr::new(net[0], net[1], 1, number), 0))).unwrap();
    connect(&fd, &to).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn over_tcp(stream: &mut TcpStream, name: &str, kind: u16) -> std::io::Result<Vec<u8>> {
    let query = query(7, name, kind);
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_server_that_is_away_is_passed_over_and_a_change_of_the_file_is_followed() {
    let net = network();
    let second = Ipv4Addr::new(net[0], net[1], 0, 54);
    let _server = Server::start(second, "192.0.2.18");
    // The first is bound and silent.
    let silent = UdpSocket::bind((server_address(net), 53)).unwrap();
    let settings = |settings: &mut NameSettings| settings.attempt = Duration::from_millis(200);
    let service = Service::start(net, &[server_address(net), second], settings);
    let socket = instance(net, 0, PATIENCE);
    let answer = ask(&service, &socket, "host.example", A).unwrap();
    assert!(answer.ends_with(&[192, 0, 2, 18]), "{answer:?}");
    // From now on the one that answers is asked first.
    let mut heard = 0;
    silent.set_nonblocking(true).unwrap();
    while silent.recv(&mut [0; 512]).is_ok() {
        heard += 1;
    }
    assert_eq!(heard, 1, "the silent one was asked first");
    ask(&service, &socket, "host.example", A).unwrap();
    assert!(silent.recv(&mut [0; 512]).is_err(), "the silent one was asked again");
    drop(silent);

    let third = Ipv4Addr::new(net[0], net[1], 0, 55);
    let _third = Server::start(third, "192.0.2.19");
    write(&service.file, &[third]);
    let deadline = Instant::now() + PATIENCE;
    while !ask(&service, &socket, "host.example", A).unwrap().ends_with(&[192, 0, 2, 19]) {
        assert!(Instant::now() < deadline, "the new server is not asked");
    }
}

#[test]
fn without_any_server_a_query_fails_before_the_resolver_gives_up() {
    let net = network();
    // Nobody listens there.
    let service = Service::start(net, &[server_address(net)], |_| {});
    let begun = Instant::now();
    let answer = ask(&service, &instance(net, 0, PATIENCE), "host.example", A).unwrap();
    assert_eq!(code(&answer), 2);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn forged_and_late_answers_are_not_taken() {
    let net = network();
    let server = UdpSocket::bind((server_address(net), 53)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let service = Service::start(net, &[server_address(net)], |_| {});
    let socket = instance(net, 0, PATIENCE);
    socket.send_to(&query(0x1234, "host.example", A), service.address).unwrap();
    let mut buffer = [0; 512];
    let (length, asker) = server.recv_from(&mut buffer).unwrap();
    let asked = &buffer[..length];
    assert_ne!(asked[..2], [0x12, 0x34], "the instance's own id is passed on");
    let forged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut reply = asked.to_vec();
        reply[2] |= 0x80;
        change(&mut reply);
        reply
    };
    server.send_to(&forged(&|reply| reply[1] ^= 1), asker).unwrap();
    server.send_to(&forged(&|reply| reply[14] = b'x'), asker).unwrap();
    server.send_to(&forged(&|reply| reply.truncate(20)), asker).unwrap();
    // Not from the server: the socket is connected, so this never arrives.
    let other = UdpSocket::bind((Ipv4Addr::new(net[0], net[1], 0, 54), 53)).unwrap();
    other.send_to(&forged(&|reply| reply[3] = 5), asker).unwrap();
    server.send_to(&forged(&|reply| reply[3] = 3), asker).unwrap();
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..2], code(&buffer[..length])), (&[0x12, 0x34][..], 3));
}

#[test]
fn one_instance_cannot_use_up_the_places_of_others() {
    let net = network();
    let server = UdpSocket::bind((server_address(net), 53)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let service = Service::start(net, &[server_address(net)], |settings| {
        settings.outstanding_per_instance_max = 3;
        settings.attempt = PATIENCE;
    });
    let greedy = instance(net, 0, PATIENCE);
    for _ in 0..10 {
        greedy.send_to(&query(1, "greedy.example", A), service.address).unwrap();
    }
    let modest = instance(net, 1, PATIENCE);
    modest.send_to(&query(2, "modest.example", A), service.address).unwrap();
    let mut buffer = [0; 512];
    let mut askers = Vec::new();
    loop {
        let (length, asker) = server.recv_from(&mut buffer).unwrap();
        let reply = (reply_to(&buffer[..length]), asker);
        if buffer[..length].windows(6).any(|window| window == b"modest") {
            server.send_to(&reply.0, reply.1).unwrap();
            break;
        }
        askers.push(reply);
    }
    modest.recv(&mut buffer).unwrap();
    assert_eq!(askers.len(), 3, "more than its share was asked for");
    // Places come back with answers.
    for (reply, asker) in askers {
        server.send_to(&reply, asker).unwrap();
        greedy.recv(&mut buffer).unwrap();
    }
    greedy.send_to(&query(3, "again.example", A), service.address).unwrap();
    let (length, asker) = server.recv_from(&mut buffer).unwrap();
    assert!(buffer[..length].windows(5).any(|window| window == b"again"));
    server.send_to(&reply_to(&buffer[..length]), asker).unwrap();
    greedy.recv(&mut buffer).unwrap();
}

/// An answer without records.
fn reply_to(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply
}

#[test]
fn connections_are_counted_per_instance_and_an_idle_one_is_closed() {
    let net = network();
    let service = Service::start(net, &[server_address(net)], |settings| {
        settings.connections_per_instance_max = 2;
        settings.connection_idle = Duration::from_secs(2);
    });
    let mut one = connect_from(net, 0, service.address);
    let mut two = connect_from(net, 0, service.address);
    let local = |stream: &mut TcpStream| over_tcp(stream, "localhost", A);
    assert!(local(&mut one).unwrap().ends_with(&[127, 0, 0, 1]));
    assert!(local(&mut two).is_ok());
    assert!(local(&mut connect_from(net, 0, service.address)).is_err(), "a third is served");
    assert!(local(&mut connect_from(net, 1, service.address)).is_ok(), "another instance is not");
    // The end is what this waits for: nothing is sent any more.
    assert_eq!(one.read(&mut [0; 1]).unwrap_or(0), 0);
    // A query longer than any, and half a query.
    let mut long = connect_from(net, 2, service.address);
    long.write_all(&[0xff, 0xff]).unwrap();
    assert_eq!(long.read(&mut [0; 1]).unwrap_or(0), 0);
    let mut half = connect_from(net, 2, service.address);
    half.write_all(&[0, 40, 1, 2]).unwrap();
    assert_eq!(half.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[test]
fn a_service_that_ends_finishes_the_queries_it_has() {
    let net = network();
    let server = UdpSocket::bind((server_address(net), 53)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut service = Service::start(net, &[server_address(net)], |settings| {
        settings.attempt = PATIENCE;
    });
    let socket = instance(net, 0, PATIENCE);
    socket.send_to(&query(5, "host.example", A), service.address).unwrap();
    let mut buffer = [0; 512];
    let (length, asker) = server.recv_from(&mut buffer).unwrap();
    service.stop.cancel();
    buffer[2] |= 0x80;
    server.send_to(&buffer[..length], asker).unwrap();
    assert_eq!(socket.recv(&mut buffer).unwrap(), length);
    service.end();
}
