//! Verbs for those who write extensions. None of them needs a platform.

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
    /// Run the cases in tests/, and say what they used of their limits
    Test(TestExtension),
    /// Run it once with an event, sending its requests, and show what it did
    Run(RunExtension),
    /// Measure it with one of its cases
    Bench(BenchExtension),
    /// Build and test again after every change
    Dev(DevExtension),
    /// Build what changed, check, and write the component for others to install
    Pack(PackExtension),
}

/// What a new extension is.
#[derive(Args, Debug)]
pub(crate) struct NewExtension {
    /// Its id, as acme.slack-notify; a name alone is published by `local`
    pub(crate) name: String,
    /// What it is for: hook, policy, middleware, log-processor, console
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

/// Which cases run, and where answers come from.
#[derive(Args, Debug)]
pub(crate) struct TestExtension {
    #[command(flatten)]
    pub(crate) of: ExtensionFolder,
    /// Only this case: the name of a file in tests/, without its end
    #[arg(long)]
    pub(crate) case: Option<String>,
    /// Send requests to their servers and write the answers down, with secrets replaced by their
    /// names; a secret is read from the variable `BERTH_SECRET_NAME` where that is set
    #[arg(long)]
    pub(crate) record: bool,
}

/// What it is run with.
#[derive(Args, Debug)]
pub(crate) struct RunExtension {
    #[command(flatten)]
    pub(crate) of: ExtensionFolder,
    /// A case (TOML), or its input alone (JSON)
    #[arg(long, short)]
    pub(crate) event: PathBuf,
}

/// What is measured, and for how long.
#[derive(Args, Debug)]
pub(crate) struct BenchExtension {
    #[command(flatten)]
    pub(crate) of: ExtensionFolder,
    /// The case [default: the first in tests/]
    #[arg(long)]
    pub(crate) case: Option<String>,
    /// How long, seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub(crate) seconds: u32,
}

/// What happens after a change.
#[derive(Args, Debug)]
pub(crate) struct DevExtension {
    #[command(flatten)]
    pub(crate) of: ExtensionFolder,
    /// Put what passed its cases into this folder, as the one whose components a platform loads
    #[arg(long, value_name = "FOLDER")]
    pub(crate) into: Option<PathBuf>,
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
