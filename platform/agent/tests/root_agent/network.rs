//! Who reaches whom.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use berth_container::{Reach, Role, Start};

use crate::life::{SERVER, answers};
use crate::platform::{Platform, app, shell};

/// A shell line that says whether a TCP connection comes to stand.
fn probe(name: &str, address: impl std::fmt::Display, port: u16) -> String {
    format!(
        "if nc -w 1 {address} {port} < /dev/null > /dev/null 2>&1; then echo {name}=open; else echo {name}=closed; fi; "
    )
}

#[tokio::test]
async fn an_instance_reaches_its_own_app_and_no_other() {
    let platform = Platform::new();
    let own = platform.instance(app(1), SERVER).await;
    let other = platform.instance(app(2), SERVER).await;
    let (own_at, other_at) = (own.address.unwrap(), other.address.unwrap());
    answers(own_at).await;
    answers(other_at).await;
    let script = probe("own", own_at, 5000) + &probe("other", other_at, 5000);
    let (_, text) = platform.script(|_| {}, &script).await;
    assert!(text.contains("own=open") && text.contains("other=closed"), "{text}");
    // What is allowed ends with the instance.
    platform.stop(own.instance, 0).await.unwrap();
    platform.stop(other.instance, 0).await.unwrap();
}

#[tokio::test]
async fn a_link_opens_one_port_of_one_app_in_one_direction() {
    let platform = Platform::new();
    let listens = "httpd -p 6000; ".to_owned() + SERVER;
    let database = platform.instance(app(2), &listens).await;
    let other = platform.instance(app(3), SERVER).await;
    let (database_at, other_at) = (database.address.unwrap(), other.address.unwrap());
    answers(database_at).await;
    answers(other_at).await;
    let script = probe("linked", database_at, 5000)
        + &probe("beside", database_at, 6000)
        + &probe("other", other_at, 5000);
    let link = |start: &mut Start| start.links = vec![Reach { app: app(2), port: 5000 }];
    let (_, text) = platform.script(link, &script).await;
    assert!(text.contains("linked=open"), "{text}");
    assert!(text.contains("beside=closed") && text.contains("other=closed"), "{text}");
    let (_, text) = platform.script(|_| {}, &script).await;
    assert!(!text.contains("=open"), "without a link: {text}");

    // What is reached reaches nobody by it.
    let mut start = platform.request(app(1), Role::Instance);
    link(&mut start);
    let linked = platform.start(start, &shell(SERVER)).await.unwrap();
    let database_block = platform.request(app(2), Role::Run).block;
    let linked_at = linked.address.unwrap();
    answers(linked_at).await;
    let of_two = |start: &mut Start| (start.app, start.block) = (app(2), database_block);
    let (_, text) = platform.script(of_two, &probe("back", linked_at, 5000)).await;
    assert!(text.contains("back=closed"), "{text}");
}

/// A packet that is lost costs whoever connects a second: the first one must arrive, also while the
/// kernel is busy with taking down the container before.
#[tokio::test]
async fn the_first_packet_to_an_instance_that_was_started_arrives() {
    let platform = Platform::new();
    for round in 0..30 {
        let started = platform.instance(app(1), "exec sleep 60").await;
        let address = SocketAddr::from((started.address.unwrap(), 5000));
        let connected = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(900));
        let error = connected.expect_err("nobody listens there").kind();
        assert_eq!(error, std::io::ErrorKind::ConnectionRefused, "in round {round}");
        platform.stop(started.instance, 0).await.unwrap();
    }
}

#[tokio::test]
async fn services_of_the_host_are_out_of_reach_on_every_address() {
    let platform = Platform::new();
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let loopback = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let hidden = loopback.local_addr().unwrap().port();
    let berth_container::Reply::Hello { network, .. } = platform
        .call(&berth_container::Request::Hello { protocol: berth_container::PROTOCOL }, &[])
        .await
        .unwrap()
    else {
        panic!("no hello")
    };
    let hop = Ipv4Addr::from(u32::from(network.base) + 2);
    let mut script = probe("gateway", network.gateway, port)
        + &probe("loopback", "127.0.0.1", hidden)
        + &probe("hop", hop, port)
        + &probe("metadata", "169.254.169.254", 80);
    for (index, address) in addresses_of_this_host().into_iter().enumerate() {
        script += &probe(&format!("host{index}"), address, port);
    }
    let (_, text) = platform.script(|_| {}, &script).await;
    assert!(text.contains("gateway=closed") && text.contains("metadata=closed"), "{text}");
    assert!(!text.contains("=open"), "{text}");
}

fn addresses_of_this_host() -> Vec<String> {
    let output = std::process::Command::new("hostname").arg("-I").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().filter(|address| address.contains('.')).map(str::to_owned).collect()
}

#[tokio::test]
async fn apps_bind_both_loopbacks_and_have_one_interface() {
    let platform = Platform::new();
    let script = "ip -o addr; (nc -l -p 4000 < /dev/null &) ; sleep 0.2; nc -w 1 ::1 4000 < /dev/null && echo six";
    let (_, text) = platform.script(|_| {}, script).await;
    assert!(text.contains("six") && text.contains("eth0"), "{text}");
    assert!(!text.contains("fe80"), "{text}");
}

#[tokio::test]
async fn packets_to_an_unused_address_come_back_at_once() {
    let platform = Platform::new();
    let started = platform.instance(app(1), SERVER).await;
    let used = started.address.unwrap();
    answers(used).await;
    let unused = Ipv4Addr::from(u32::from(used) + 77);
    let begun = std::time::Instant::now();
    assert!(crate::life::get(unused).is_err());
    assert!(begun.elapsed().as_millis() < 1500, "{:?}", begun.elapsed());
}
