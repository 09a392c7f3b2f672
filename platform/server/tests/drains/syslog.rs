//! Syslog on UDP, TCP and TLS, received by rsyslog.

use berth_model::drain::Reach;
use berth_model::log::LogStream;

use crate::certificates;
use crate::rsyslog::{Input, Rsyslog};
use crate::world::World;

/// What rsyslog understood of a line, without the host.
fn parts(line: &str) -> &str {
    line.split_once('|').unwrap().1
}

#[tokio::test]
async fn rsyslog_receives_lines_by_udp_with_all_their_parts() {
    let rsyslog = Rsyslog::start(Input::Udp).await;
    let mut world = World::new().await;
    let drain = world.add(&format!("syslog+udp://127.0.0.1:{}", rsyslog.port), None).await;
    world.start();
    world.write("hello wörld");
    world.write_as(LogStream::Stderr, "oh");
    let line = rsyslog.has("hello").await;
    assert_eq!(
        parts(&line).trim_end(),
        "shop|web.1|stdout|[meta sequenceId=\"1\"]|user.info|hello wörld"
    );
    let line = rsyslog.has("oh").await;
    assert_eq!(parts(&line), "shop|web.1|stderr|[meta sequenceId=\"2\"]|user.err|oh");
    world.sent(drain.id, 2).await;
    world.stop().await;
}

#[tokio::test]
async fn rsyslog_receives_every_line_by_tcp_in_order_across_its_restart() {
    let mut rsyslog = Rsyslog::start(Input::Tcp).await;
    let mut world = World::new().await;
    let drain = world.add(&format!("syslog+tcp://127.0.0.1:{}", rsyslog.port), None).await;
    world.start();
    (0..100).for_each(|n| world.write(&format!("line {n:04}")));
    rsyslog.has("line 0099").await;
    rsyslog.stop();
    (100..200).for_each(|n| world.write(&format!("line {n:04}")));
    let error = world.error(drain.id).await;
    assert!(error.contains(&format!("127.0.0.1:{}", rsyslog.port)), "{error}");
    rsyslog.run().await;
    rsyslog.has("line 0199").await;
    let drain = world.sent(drain.id, 200).await;
    assert_eq!((drain.counts.sent, drain.counts.dropped), (200, 0));
    assert_eq!(world.state(drain.id).unwrap().error, None);
    world.stop().await;
    all_in_order(&rsyslog, 200);
}

/// Every line arrived; repeated ones are allowed, but each is first seen in its order.
fn all_in_order(rsyslog: &Rsyslog, count: usize) {
    let mut seen = std::collections::BTreeSet::new();
    let mut first = Vec::new();
    for line in rsyslog.received() {
        let number: usize = line.rsplit_once("line ").unwrap().1.trim().parse().unwrap();
        if seen.insert(number) {
            first.push(number);
        }
    }
    assert_eq!(first, (0..count).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_drain_goes_on_after_a_restart_of_the_platform_and_what_was_taken_is_not_sent_again() {
    let rsyslog = Rsyslog::start(Input::Tcp).await;
    let mut world = World::new().await;
    world.add(&format!("syslog+tcp://127.0.0.1:{}", rsyslog.port), None).await;
    world.start();
    (0..50).for_each(|n| world.write(&format!("line {n:04}")));
    rsyslog.has("line 0049").await;
    // The end of the connection is a receipt: nothing had to settle.
    world.stop().await;
    (50..100).for_each(|n| world.write(&format!("line {n:04}")));
    world.start();
    rsyslog.has("line 0099").await;
    world.stop().await;
    assert_eq!(rsyslog.received().len(), 100);
    all_in_order(&rsyslog, 100);
}

#[tokio::test]
async fn rsyslog_receives_lines_by_tls_from_who_trusts_its_authority_and_from_nobody_else() {
    let certificates = certificates::made();
    let rsyslog = Rsyslog::start(Input::Tls(&certificates)).await;
    let mut world = World::new().await;
    let url = format!("syslog+tls://127.0.0.1:{}", rsyslog.port);
    let stranger = world.add(&url, None).await;
    let trusting = world.add(&url, Some(&certificates.ca)).await;
    world.start();
    world.write("a secret");
    rsyslog.has("a secret").await;
    world.sent(trusting.id, 1).await;
    let error = world.error(stranger.id).await;
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(world.store.drain(stranger.id).await.unwrap().unwrap().counts.sent, 0);
    world.stop().await;
    assert_eq!(rsyslog.received().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_holds_up_neither_the_app_nor_another_drain() {
    let rsyslog = Rsyslog::start(Input::Tcp).await;
    // It accepts, and never reads.
    let stuck = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stuck_port = stuck.local_addr().unwrap().port();
    let mut world = World::new().await;
    let slow = world.add(&format!("syslog+tcp://127.0.0.1:{stuck_port}"), None).await;
    let quick = world.add(&format!("syslog+tcp://127.0.0.1:{}", rsyslog.port), None).await;
    world.start();
    world.write("line 0000");
    let _connection = stuck.accept().await.unwrap();
    // More than two sockets and a window of messages hold.
    let long = "x".repeat(8000);
    (1..2500).for_each(|n| world.write(&format!("{long} line {n:04}")));
    let quick = world.sent(quick.id, 2500).await;
    assert_eq!(quick.counts.dropped, 0);
    let held = world.state(slow.id).unwrap();
    assert!((1..2000).contains(&held.waiting), "{held:?}");
    assert!(world.store.drain(slow.id).await.unwrap().unwrap().counts.sent < 1000);
    world.stop().await;
    all_in_order(&rsyslog, 2500);
}

#[tokio::test]
async fn an_address_of_this_machine_is_refused_to_a_drain_of_a_team() {
    let rsyslog = Rsyslog::start(Input::Tcp).await;
    let mut world = World::new().await;
    let url = format!("syslog+tcp://localhost:{}", rsyslog.port);
    let drain = world.add_with(&url, None, Reach::Private).await;
    world.start();
    world.write("a secret");
    let error = world.error(drain.id).await;
    assert!(error.contains("own addresses"), "{error}");
    world.stop().await;
    assert!(rsyslog.received().is_empty());
}
