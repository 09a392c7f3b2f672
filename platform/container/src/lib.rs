//! What a container is, and how to ask the agent for one.
//!
//! `wire` holds the messages between `berthd` and `berth-agent`, `client` sends them. The agent
//! interprets ids, digests, enums and bounded numbers only; argument vectors, environment, input
//! and tar streams travel as descriptors that it hands on unread. This crate knows nothing of
//! namespaces, mounts or libcontainer: that is the agent's.

pub mod client;
pub mod logfile;
pub mod measures;
pub mod network;
pub mod wire;

pub use client::{Agent, AgentError, Session};
pub use measures::{
    InstanceMeasures, MEASURED_MAX, Measures, NetworkMeasures, OwnProgram, ProgramMeasures,
};
pub use network::{BadRange, NetworkRange, NetworkSettings};
pub use wire::*;
