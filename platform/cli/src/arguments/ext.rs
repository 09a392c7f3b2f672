//! Verbs for those who run extensions.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::App;

#[derive(Subcommand, Debug)]
pub(crate) enum Operator {
    /// List the installed extensions
    List,
    /// Install a component, or another version of one, after a look at what it asks for
    Install(Install),
    /// Put a component into a registry of container images
    Push(Push),
    /// Get a component out of a registry, as a file
    Pull(Pull),
    /// Write an installed component to a file, for a platform that reaches no registry
    Save(Save),
    /// Show what an extension may do, how it does, and what it did not take
    Show(Extension),
    /// Say yes to what a version that waits asks for, or grant another set
    Grant(Grant),
    /// Read or change an extension's configuration
    Config(ExtensionConfig),
    /// List, set and unset an extension's secrets
    #[command(subcommand)]
    Secrets(Secrets),
    /// Read or change for which apps an extension is
    Apps(AppsOf),
    /// Print what an extension wrote, and what the platform says of it
    Logs(ExtensionLogs),
    /// List the pages that extensions have
    Pages {
        /// Its id [default: every extension that has pages]
        id: Option<String>,
    },
    /// Show a page of an extension, or its panel of an app
    Page(PageOf),
    /// Call an extension no more, or none of them
    Disable(Disable),
    /// Call an extension again, whatever it did before
    Resume(Extension),
    /// Offer events again that a hook did not take
    Replay(Replay),
    /// Remove an extension with its secrets and everything that it keeps
    Remove {
        #[command(flatten)]
        of: Extension,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// One installed extension.
#[derive(Args, Debug)]
pub(crate) struct Extension {
    /// Its id, as berth.webhook
    pub(crate) id: String,
}

#[derive(Args, Debug)]
pub(crate) struct Install {
    /// The component: a file, or HOST[:PORT]/NAME[:TAG|@DIGEST] in a registry
    #[arg(value_name = "FILE|REF")]
    pub(crate) what: PathBuf,
    #[command(flatten)]
    pub(crate) consent: Consent,
    #[command(flatten)]
    pub(crate) values: ConfigValues,
    /// The apps that it is for, with commas between them [default: all of them, or those that it
    /// is for already]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) apps: Vec<String>,
}

/// What goes into a registry, and where.
#[derive(Args, Debug)]
pub(crate) struct Push {
    /// The component, with its manifest in it
    pub(crate) file: PathBuf,
    /// Where: HOST[:PORT]/NAME[:TAG]
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
}

/// What comes out of a registry, and where it goes.
#[derive(Args, Debug)]
pub(crate) struct Pull {
    /// Where it lies: HOST[:PORT]/NAME[:TAG|@DIGEST]
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    /// File to write [default: ID-VERSION.wasm]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// What comes out of the platform, and where it goes.
#[derive(Args, Debug)]
pub(crate) struct Save {
    #[command(flatten)]
    pub(crate) of: Extension,
    /// File to write [default: ID-VERSION.wasm]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How somebody says yes to what a component asks for.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct Consent {
    /// Grant everything that it asks for, if that is what was reviewed under this hash
    #[arg(long, value_name = "HASH")]
    pub(crate) accept: Option<String>,
    /// Grant what this file says and nothing else: capabilities as in an extension.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) grant_file: Option<PathBuf>,
    /// Grant everything that it asks for, do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Values of a configuration.
#[derive(Args, Debug)]
pub(crate) struct ConfigValues {
    /// A file with the configuration, TOML or JSON; `-` is standard input
    #[arg(id = "config", long = "config", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// One value, which leaves the others as they are: JSON, or a text as it is
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Grant {
    #[command(flatten)]
    pub(crate) of: Extension,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args, Debug)]
pub(crate) struct ExtensionConfig {
    #[command(flatten)]
    pub(crate) of: Extension,
    /// A file with the new configuration as a whole, TOML or JSON; `-` is standard input
    pub(crate) file: Option<PathBuf>,
    /// Change one value: JSON, or a text as it is
    #[arg(long = "set", value_name = "NAME=VALUE", conflicts_with = "file")]
    pub(crate) set: Vec<String>,
    /// Go back to the default of one value
    #[arg(long = "unset", value_name = "NAME", conflicts_with = "file")]
    pub(crate) unset: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Secrets {
    /// List the secrets that an extension asks for, never their values
    List(Extension),
    /// Set a secret to what standard input gives, or to what is typed
    Set(Secret),
    /// Take a secret's value away
    Unset(Secret),
}

/// A secret of an extension. Its value is no argument: other programs see those.
#[derive(Args, Debug)]
pub(crate) struct Secret {
    #[command(flatten)]
    pub(crate) of: Extension,
    /// The secret's name
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct AppsOf {
    #[command(flatten)]
    pub(crate) of: Extension,
    /// Their names, with commas between them
    #[arg(value_name = "NAMES", value_delimiter = ',')]
    pub(crate) names: Vec<String>,
    /// All apps, also those to come
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExtensionLogs {
    #[command(flatten)]
    pub(crate) of: Extension,
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, default_value_t = 100)]
    pub(crate) lines: u32,
}

/// A page of an extension.
#[derive(Args, Debug)]
pub(crate) struct PageOf {
    #[command(flatten)]
    pub(crate) of: Extension,
    /// The page, as `berth ext pages` has it
    pub(crate) page: String,
    #[command(flatten)]
    pub(crate) app: App,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Disable {
    /// Its id
    pub(crate) id: Option<String>,
    /// Every extension, for recovery: none of them is asked
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) of: Extension,
    /// Number of the event, as `berth ext show` has it [default: all that are given up]
    pub(crate) event: Option<i64>,
}
