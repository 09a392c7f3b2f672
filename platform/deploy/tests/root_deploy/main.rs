//! Deployments and commands in real containers, as root. The programs are looked for in
//! `BERTH_PROGRAMS`, or where cargo puts them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod deployments;
mod host;
#[path = "../support/records.rs"]
mod records;
mod sessions;
