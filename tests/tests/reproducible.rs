//! The same commit gives the same image, wherever and by whomever it is built.

use std::os::unix::fs::MetadataExt;

use acceptance::platform::programs;
use acceptance::{Platform, Repository};
use nix::sys::stat::{Mode, umask};

/// Debian's libfaketime: whoever loads it reads another clock.
const OTHER_CLOCK: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const DAYS_LATER: u64 = 400;

/// Which image a commit becomes, and when the platform thinks that it built it, days since 1970.
fn build(platform: &Platform, repository: &Repository) -> (String, u64) {
    repository.deploy(platform, "app");
    let shown = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&platform.must(&[arguments, &["--app", "app", "--json"]].concat()))
            .unwrap()
    };
    let release = shown(&["releases", "show", "v1"]);
    let builds = shown(&["builds", "list"]);
    let at = builds["items"][0]["created_at"].as_str().unwrap();
    (release["image"].as_str().unwrap().to_owned(), days(at))
}

/// Days from 1970 to an RFC 3339 time, to a day or two.
fn days(at: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| at[range].parse::<u64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    (year - 1970) * 1461 / 4 + (month - 1) * 367 / 12 + day
}

/// The id that the platform's control process has; every id of its apps and builds lies above it.
fn ids_from(platform: &Platform) -> u32 {
    std::fs::metadata(platform.data.join("state")).unwrap().uid()
}

fn samples() -> Vec<(&'static str, Repository)> {
    let component = Repository::new();
    component
        .write("app.wasm", std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap());
    component.commit("A component");
    let copied =
        ["static-site", "python-flask", "node-express"].map(|n| (n, Repository::of_sample(n)));
    copied.into_iter().chain([("wasm-hello", component)]).collect()
}

#[test]
fn two_data_folders_with_another_umask_uid_and_clock_build_the_same_image_of_each_kind_of_app() {
    let before = umask(Mode::from_bits_truncate(0o077));
    let first = Platform::start();
    umask(Mode::from_bits_truncate(0o002));
    let offset = format!("+{DAYS_LATER}d");
    let second = Platform::start_elsewhere(
        &["--admin-uid", "65533"],
        &[
            ("LD_PRELOAD", OTHER_CLOCK),
            ("FAKETIME", &offset),
            // Deadlines are none of the calendar's business.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("TZ", "Pacific/Kiritimati"),
            ("LC_ALL", "C.UTF-8"),
        ],
    );
    umask(before);
    assert_ne!(ids_from(&first), ids_from(&second), "each has ids of its own");
    let owner =
        |platform: &Platform| std::fs::metadata(platform.data.join("admin-token")).unwrap().uid();
    assert_eq!((owner(&first), owner(&second)), (0, 65_533));

    for (sample, repository) in samples() {
        // Each app is called the same, so it is made anew for each sample.
        let [(here, now), (there, then)] = [&first, &second].map(|platform| {
            let built = build(platform, &repository);
            platform.must(&["apps", "destroy", "--app", "app", "--yes"]);
            built
        });
        assert!(
            then.abs_diff(now).abs_diff(DAYS_LATER) < 5,
            "{sample}: the second clock is not another one: days {now} and {then}"
        );
        assert_eq!(here, there, "{sample}");
    }
}
