//! The operator's word about the network of apps: the section `network` of the configuration.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use acceptance::looker::stacks_are_there;
use acceptance::scene::{MACHINE, PORT, PRIVATE, PUBLIC, must};
use acceptance::{Looker, Platform, Scene, wait_for};

/// Another configuration, with the section `network` of these lines, at the next start.
fn configure(platform: &Platform, lines: &str) {
    std::fs::write(platform.data.join("config.toml"), format!("[network]\n{lines}\n")).unwrap();
}

/// Starts `berthd serve`, which must refuse its configuration; what it said since `from`.
#[track_caller]
fn refused(platform: &mut Platform) -> String {
    let from = platform.log().len();
    platform.serve().unwrap_err();
    assert_eq!(platform.wait_end(), 64, "{}", platform.log());
    platform.log().split_off(from)
}

#[test]
fn an_app_lives_in_the_operators_range_and_reaches_private_hosts_unless_forbidden() {
    stacks_are_there();
    let scene = Scene::enter();
    // No other platform has it, nor what a test that was killed left of one.
    let own = format!("10.{}", 64 + std::process::id() % 128);
    let mut platform = Platform::start_with(&format!("[network]\nrange = '{own}.0.0/16'\n"));
    let app = Looker::deploy(&scene, &platform);
    let address = app.address(&platform);
    assert!(address.starts_with(&format!("{own}.")), "{address}");
    let outside = Some(format!("you are {MACHINE}\n"));
    let out = || app.hears(&platform, PUBLIC, PORT);
    assert_eq!(wait_for("the app's way out", 30, out), outside.clone().unwrap());
    assert_eq!(app.hears(&platform, PRIVATE, PORT), outside);

    // It counts at once, also for the instance that runs, and the router still reaches the app.
    platform.kill();
    configure(&platform, &format!("range = '{own}.0.0/16'\nprivate_ranges = false"));
    platform.serve().unwrap();
    assert_eq!(app.hears(&platform, PRIVATE, PORT), None, "private ranges are forbidden");
    assert_eq!(app.hears(&platform, PUBLIC, PORT), outside);
    assert_eq!(app.address(&platform), address);

    // Another range is nothing that a running app can be given.
    platform.kill();
    for line in ["range = '100.99.0.0/16'", ""] {
        configure(&platform, line);
        let said = refused(&mut platform);
        assert!(said.contains(&format!("{own}.0.0/16")) && said.contains("berthd down"), "{said}");
        assert_eq!(app.address(&platform), address);
    }

    // With nothing that runs it can, unless somebody has it.
    platform.down().unwrap();
    configure(&platform, "range = '192.168.0.0/16'");
    let said = refused(&mut platform);
    assert!(said.contains("192.168.0.0/16 overlaps the route 192.168.77.0/24"), "{said}");
    configure(&platform, "range = '203.0.0.0/16'");
    let said = refused(&mut platform);
    assert!(said.contains("203.0.0.0/16") && said.contains("line 2"), "{said}");
    assert!(!must("ip route").contains("berth"), "something is left of a start that was refused");
    configure(&platform, "");
    platform.serve().unwrap();
    let moved = wait_for("the app in its new range", 60, || {
        let found = platform.get("looker", "/own").ok().filter(|(status, _)| *status == 200);
        found.map(|(_, text)| text)
    });
    assert!(moved.starts_with("10.2"), "{moved}");
}
