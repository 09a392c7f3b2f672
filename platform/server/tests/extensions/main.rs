//! The registry of extensions with a real store, real blobs and real components. They are compiled
//! in this process, as `berthd compile` does in a child; `root_extensions` has the child.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod breaker;
mod buildpacks;
mod capabilities;
mod folder;
mod guests;
mod hooks;
#[path = "../../../extensions/tests/hostile/build.rs"]
#[expect(dead_code, reason = "tests of the sandbox use the rest of it")]
mod hostile;
mod http;
mod install;
#[path = "../api/packs.rs"]
#[expect(dead_code, reason = "tests of the API use the rest of it")]
mod packs;
mod pages;
mod policies;
mod recovery;
#[path = "../api/rooms.rs"]
#[expect(dead_code, reason = "tests of the API use the rest of it")]
mod rooms;
#[path = "../api/shelf.rs"]
mod shelf;
#[path = "../api/stores.rs"]
mod stores;
mod support;

use support::by;

/// The moment of these rooms.
const NOW_MS: i64 = 1_700_000_000_000;
