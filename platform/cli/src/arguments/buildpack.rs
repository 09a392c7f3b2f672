//! Verbs for those who run buildpacks, and for those who write them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Verbs about buildpacks.
#[derive(Subcommand, Debug)]
pub(crate) enum Buildpack {
    #[command(flatten)]
    Operator(BuildpackOperator),
    #[command(flatten)]
    Author(BuildpackAuthor),
}

#[derive(Subcommand, Debug)]
pub(crate) enum BuildpackOperator {
    /// List the buildpacks: those that ship with Berth, and those that were added
    List,
    /// Add a buildpack; the next build is tried with it
    Add {
        /// The component, with its manifest in it
        file: PathBuf,
        /// Put it in the place of the one of its id, which may ship with Berth
        #[arg(long)]
        replace: bool,
    },
    /// Remove a buildpack that was added; what was built with it goes on
    Remove {
        /// Its id, as acme-make
        id: String,
    },
    /// Show the groups of buildpacks that are tried in turn, or set them
    Order {
        /// Each group is ids with commas between them; one with `?` may be missing: 'node,static?'
        #[arg(value_name = "GROUP")]
        groups: Vec<String>,
        /// Go back to the usual groups
        #[arg(long, conflicts_with = "groups")]
        usual: bool,
    },
}

/// None of these needs a platform.
#[derive(Subcommand, Debug)]
pub(crate) enum BuildpackAuthor {
    /// Make the folder of a new buildpack
    New(NewBuildpack),
    /// Build the component, with its manifest in it
    Build(BuildpackFolder),
    /// Run the cases in tests/, without containers: detection, and the steps of the build
    Test(TestBuildpack),
    /// Build what changed, check, and write the component for others to add
    Pack(PackBuildpack),
}

/// What a new buildpack is.
#[derive(Args, Debug)]
pub(crate) struct NewBuildpack {
    /// Its id, as acme-make
    pub(crate) name: String,
    /// What it is written in
    #[arg(long, short, default_value = "rust")]
    pub(crate) lang: BuildpackLanguage,
    /// Folder to make [default: the name]
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
}

/// A folder that holds a buildpack.toml.
#[derive(Args, Debug)]
pub(crate) struct BuildpackFolder {
    /// Folder of the buildpack
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
}

/// Which cases run.
#[derive(Args, Debug)]
pub(crate) struct TestBuildpack {
    #[command(flatten)]
    pub(crate) of: BuildpackFolder,
    /// Only this case: the name of a file in tests/, without its end
    #[arg(long)]
    pub(crate) case: Option<String>,
}

/// Where the packed file goes.
#[derive(Args, Debug)]
pub(crate) struct PackBuildpack {
    #[command(flatten)]
    pub(crate) of: BuildpackFolder,
    /// File to write [default: ID-VERSION.wasm in the folder]
    #[arg(long, short)]
    pub(crate) output: Option<PathBuf>,
}

/// What a buildpack is written in.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuildpackLanguage {
    /// Rust, built by cargo
    Rust,
}
