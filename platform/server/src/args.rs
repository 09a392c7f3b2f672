//! The command line of `berthd`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The Berth platform.
#[derive(Parser, Debug)]
#[command(name = "berthd", version, about)]
pub struct Arguments {
    /// What to be.
    #[command(subcommand)]
    pub command: Command,
}

/// What one `berthd` process is.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the platform (starts as root, then drops every privilege)
    Serve(Serve),
    /// Stop the platform of a data folder: apps, router and agent; data stays (needs root)
    Down(Down),
    /// Make a new administrator's token and print the path of its file (needs root)
    AdminTokenReset(DataFolder),
    /// Run the router (started by the agent)
    #[command(hide = true)]
    Route(Worker),
    /// Run the Wasm worker (started by the agent)
    #[command(hide = true)]
    Wasm(Worker),
    /// Compile a component from standard input to standard output (started by the agent)
    #[command(hide = true)]
    Compile {
        /// Which engine's settings
        #[arg(value_parser = ["extensions", "apps"])]
        engine: String,
    },
    /// Tools of authors of extensions (started by `berth ext`)
    #[command(flatten)]
    ExtTool(crate::ext_tools::ExtTool),
    /// Tools of authors of buildpacks (started by `berth buildpack`)
    #[command(flatten)]
    BuildpackTool(crate::buildpack_tools::BuildpackTool),
}

/// Options of `berthd serve`.
#[derive(Args, Debug, Clone)]
pub struct Serve {
    /// Folder of everything the platform keeps
    #[arg(long, default_value = "/var/lib/berth")]
    pub data: PathBuf,
    /// Address of the router
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,
    /// Address of the API and of git over HTTP; loopback only
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub api: SocketAddr,
    /// Address of git over SSH; loopback only
    #[arg(long, default_value = "127.0.0.1:2222")]
    pub ssh: SocketAddr,
    /// Owner of the file with the administrator's token
    #[arg(long, default_value_t = 0)]
    pub admin_uid: u32,
    /// File of the encryption key, 32 bytes as 64 hex digits [default: /etc/berth/keys/<data id>]
    #[arg(long)]
    pub key: Option<PathBuf>,
    /// Domain below which apps get their default host name
    #[arg(long, default_value = "localhost")]
    pub domain: String,
    /// File with deadlines and limits, TOML; unknown keys are errors
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// Options of `berthd down`.
#[derive(Args, Debug, Clone)]
pub struct Down {
    /// Folder of the platform
    #[arg(long, default_value = "/var/lib/berth")]
    pub data: PathBuf,
    /// How long each instance may take to end, milliseconds
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=600_000))]
    pub grace_ms: u32,
}

/// A data folder.
#[derive(Args, Debug, Clone)]
pub struct DataFolder {
    /// Folder of the platform
    #[arg(long, default_value = "/var/lib/berth")]
    pub data: PathBuf,
}

/// Options of a worker.
#[derive(Args, Debug, Clone)]
pub struct Worker {
    /// Folder of the platform
    #[arg(long)]
    pub data: PathBuf,
    /// First inherited listener; the others follow it
    #[arg(long, default_value_t = 3)]
    pub listeners_from_fd: i32,
}
