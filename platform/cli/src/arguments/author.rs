//! Verbs for those who write extensions. None of them but `dev` needs a platform.

use std::path::PathBuf;

use berth_model::extension::Kind;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand, Debug)]
pub(crate) enum Author {
    /// Make the folder of a new extension
    New(NewExtension),
    /// Build the component, with its manifest in it
    Build(ExtensionFolder),
    /// Say whether the built component is one that a platform takes
    Check(ExtensionFolder),
    /// Build, check, and write the component and its digest for others to install
    Pack(PackExtension),
}

/// What a new extension is.
#[derive(Args, Debug)]
pub(crate) struct NewExtension {
    /// Its id, as acme.slack-notify; a name alone is published by `local`
    pub(crate) name: String,
    /// What it is for: hook, policy, middleware, log-processor, addon, console
    #[arg(long, short)]
    pub(crate) kind: Kind,
    /// What it is written in
    #[arg(long, short, default_value = "rust")]
    pub(crate) lang: Language,
    /// Folder to make [default: the name]
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
}

/// A folder that holds an extension.toml.
#[derive(Args, Debug)]
pub(crate) struct ExtensionFolder {
    /// Folder of the extension
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
}

/// Where the packed file goes.
#[derive(Args, Debug)]
pub(crate) struct PackExtension {
    #[command(flatten)]
    pub(crate) of: ExtensionFolder,
    /// File to write [default: ID-VERSION.wasm in the folder]
    #[arg(long, short)]
    pub(crate) output: Option<PathBuf>,
}

/// What an extension is written in.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// Rust, built by cargo
    Rust,
    /// JavaScript, built by componentize-js
    Js,
    /// Python, built by componentize-py
    Python,
}
