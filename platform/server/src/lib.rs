//! `berthd`: wires the rooms together.
//!
//! `boot` is the part that runs as root, `serve` the rest of the control process, `worker` the
//! other processes. `http` is the API. Nothing here decides what a room decides; it carries values
//! from one to the next and writes them down between.

pub mod actions;
pub mod addons;
mod admin_token;
pub mod args;
pub mod attempts;
pub mod boot;
mod build_log;
pub mod buildpack_tools;
pub mod buildpacks;
pub mod clock;
mod collect;
pub mod compiler;
pub mod config;
mod console;
pub mod data_folder;
pub mod disk;
pub mod down;
pub mod drains;
pub mod ext_tools;
pub mod extensions;
pub mod git;
mod guesses;
mod heap;
pub mod http;
pub mod key;
pub mod listener;
mod log;
pub mod logs;
pub mod measures;
pub mod middleware;
mod passwords;
pub mod pipeline;
pub mod privileges;
pub mod programs;
pub mod records;
pub mod router;
pub mod serve;
pub mod stacks;
pub mod wasm_host;
mod wishes;
pub mod worker;
