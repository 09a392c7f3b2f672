//! The folder that a platform follows, as whoever builds an extension beside it sees it.

use acceptance::extensions::{ask, basic_auth, extension_folder, put, reworded};
use acceptance::{Platform, wait_for};

use super::{hello, logs};

#[test]
fn a_version_that_appears_in_the_folder_serves_and_what_is_broken_changes_nothing() {
    let (folder, extensions) = extension_folder();
    let mut platform = Platform::start_with(&extensions);
    hello().deploy(&platform, "hello");
    let id = basic_auth(&platform, "hello");
    let says = |platform: &Platform| {
        let answer = ask(platform, "hello", "/", &[]);
        assert_eq!(answer.status(), 401);
        answer.headers()["www-authenticate"].to_str().unwrap().to_owned()
    };
    assert!(says(&platform).starts_with("Basic realm="));

    put(folder.path(), &reworded("BASIC realm"));
    wait_for("the new version", 20, || says(&platform).starts_with("BASIC realm=").then_some(()));
    let broken = reworded("BrOkE realm");
    put(folder.path(), &broken[..broken.len() / 2]);
    logs(&platform, &id, "basic-auth.wasm was not loaded");
    assert!(says(&platform).starts_with("BASIC realm="));

    // The platform remembers which one served; the broken file is still there.
    platform.kill();
    platform.serve().unwrap();
    assert!(says(&platform).starts_with("BASIC realm="));
    put(folder.path(), &reworded("basic realm"));
    wait_for("the next version", 20, || says(&platform).starts_with("basic realm=").then_some(()));
}
