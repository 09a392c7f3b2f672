//! Hostile and faulty guests against the real hosts. `tests/guests/README.md` has a row for each.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod beside;
mod build;
#[expect(dead_code, reason = "the tests with a network of their own use the rest of it")]
mod host;
mod table;

mod files;
mod grants;
mod memory;
mod ordinary;
mod output;
mod requests;
mod time;
mod traps;
