//! The room against real things: stock git and ssh clients over real sockets, git's own
//! receive-pack with the real hook relay, real repositories and a real blob store. Only the server
//! around the room is a stand-in, because the real one is not part of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod client;
mod host;
mod tool;
mod world;

mod access;
mod concurrent;
mod deploy_branch;
mod hostile;
mod leaving;
mod limits;
mod rules;
mod shallow;
mod trees;
