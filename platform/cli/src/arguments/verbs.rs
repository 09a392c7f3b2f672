//! The verbs of each noun.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::App;

#[derive(Subcommand, Debug)]
pub(crate) enum Apps {
    /// Create an app, and add it as the git remote `berth` of this folder's repository
    Create {
        /// Its name
        name: String,
        /// The team that owns it [default: the token's]
        #[arg(long)]
        team: Option<String>,
        /// Leave this folder's git configuration alone
        #[arg(long)]
        no_remote: bool,
    },
    /// List apps
    List,
    /// Show an app
    Info(App),
    /// Rename an app; its default host name changes with it
    Rename {
        /// The new name
        new_name: String,
        #[command(flatten)]
        app: App,
    },
    /// Destroy an app with everything that belongs to it
    Destroy {
        #[command(flatten)]
        app: App,
        /// Its volumes too, and what they hold
        #[arg(long)]
        volumes: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum PsVerb {
    /// Change how many instances of a process run: `web=2 worker=1`
    Scale {
        /// PROCESS=COUNT
        #[arg(required = true, value_name = "PROCESS=COUNT")]
        counts: Vec<String>,
        #[command(flatten)]
        app: App,
    },
    /// Replace every instance by a new one, without downtime
    Restart(App),
    /// Stop every instance until `ps start`
    Stop(App),
    /// Start the app again
    Start(App),
}

#[derive(Subcommand, Debug)]
pub(crate) enum Config {
    /// Set variables; a new release runs them
    Set {
        /// NAME=VALUE
        #[arg(required = true, value_name = "NAME=VALUE")]
        variables: Vec<String>,
        /// Keep them for the next release, do not restart
        #[arg(long)]
        no_restart: bool,
        #[command(flatten)]
        app: App,
    },
    /// Remove variables; a new release runs without them
    Unset {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
        /// Keep the change for the next release, do not restart
        #[arg(long)]
        no_restart: bool,
        #[command(flatten)]
        app: App,
    },
    /// Print one value; it is recorded who saw it
    Get {
        /// Name
        name: String,
        #[command(flatten)]
        app: App,
    },
    /// List names, without their values
    List {
        /// With the values; it is recorded who saw them
        #[arg(long)]
        reveal: bool,
        #[command(flatten)]
        app: App,
    },
    /// Print all variables in a form that other programs read; it is recorded who saw them
    Export {
        /// The form
        #[arg(long, value_enum, default_value_t = Format::Envfile)]
        format: Format,
        #[command(flatten)]
        app: App,
    },
    /// Set every variable of a file of NAME=VALUE lines, or of JSON
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
        /// Keep them for the next release, do not restart
        #[arg(long)]
        no_restart: bool,
        #[command(flatten)]
        app: App,
    },
}

#[derive(ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Format {
    /// NAME="VALUE" lines
    Envfile,
    /// `export NAME='VALUE'` lines
    Shell,
    /// One JSON object
    Json,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Builds {
    /// Build the newest commit of the deploy branch again, and deploy it
    Create(App),
    /// List builds, newest first
    List(App),
    /// Show a build and its log
    Show {
        /// Id of the build
        build: String,
        #[command(flatten)]
        app: App,
    },
    /// Cancel a running build
    Cancel {
        /// Id of the build
        build: String,
        #[command(flatten)]
        app: App,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Releases {
    /// List releases, newest first
    List(App),
    /// Show a release
    Show {
        /// Its number: v3
        release: String,
        #[command(flatten)]
        app: App,
    },
    /// Show what differs between two releases
    Diff {
        /// The older one
        from: String,
        /// The newer one
        to: String,
        #[command(flatten)]
        app: App,
    },
    /// Deploy an earlier release again, with its image and its configuration
    Rollback {
        /// Its number [default: the one before the current]
        release: Option<String>,
        #[command(flatten)]
        app: App,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Domains {
    /// List domains
    List(App),
    /// Route a domain to the app
    Add {
        /// The host name
        domain: String,
        #[command(flatten)]
        app: App,
    },
    /// Route a domain no more
    Remove {
        /// The host name
        domain: String,
        #[command(flatten)]
        app: App,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Drains {
    /// List drains and how they do
    List {
        /// Only those of this app
        #[arg(long, short = 'a', value_name = "NAME")]
        app: Option<String>,
    },
    /// Send the lines of an app, or of every app, from now on
    Add {
        /// syslog+udp://HOST[:PORT], syslog+tcp://, syslog+tls://, gelf+udp://, gelf+tcp:// or https://
        url: String,
        /// The app
        #[arg(long, short = 'a', value_name = "NAME", required_unless_present = "all_apps")]
        app: Option<String>,
        /// The lines of every app; for administrators
        #[arg(long, conflicts_with = "app")]
        all_apps: bool,
        /// An extension that changes the lines; several in their order
        #[arg(long = "processor", value_name = "EXTENSION")]
        processors: Vec<String>,
        /// A file with certificates of authorities to trust besides this machine's, PEM
        #[arg(long, value_name = "FILE")]
        ca: Option<std::path::PathBuf>,
    },
    /// Remove a drain
    Remove {
        /// Its id
        drain: String,
    },
    /// Show a drain and how it does
    Info {
        /// Its id
        drain: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Volumes {
    /// List volumes with their size and use
    List(App),
    /// Make a volume; its process is stopped and begins anew with it
    Create {
        /// Its name
        name: String,
        /// Where the process finds it
        #[arg(long, value_name = "FOLDER")]
        path: String,
        /// What it may hold [default: 1GiB]
        #[arg(long)]
        size: Option<String>,
        /// The process type that mounts it; it runs once [default: web]
        #[arg(long)]
        process: Option<String>,
        /// Leave what runs as it is: the next instance has it
        #[arg(long)]
        no_restart: bool,
        #[command(flatten)]
        app: App,
    },
    /// Remove a volume and what it holds; its process must be stopped
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        app: App,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Addons {
    /// List add-ons
    List,
    /// Make an add-on: `berth addons create postgresql NAME`
    Create {
        /// The extension that describes it, installed before
        kind: String,
        /// Its name
        name: String,
        /// What it may hold, as 4GiB; short for --set size-mib=4096
        #[arg(long)]
        size: Option<String>,
        /// What the extension lets you choose; a value is JSON or a text
        #[arg(long = "set", value_name = "KEY=VALUE")]
        options: Vec<String>,
        /// The team that will own it [default: the token's]
        #[arg(long)]
        team: Option<String>,
    },
    /// Show an add-on
    Show {
        /// Its name
        name: String,
    },
    /// Let an app reach an add-on and tell it how, in variables of its configuration
    Attach {
        /// The add-on's name
        name: String,
        #[command(flatten)]
        app: App,
        /// Put before the names of the variables
        #[arg(long = "as", value_name = "PREFIX")]
        prefix: Option<String>,
    },
    /// The opposite; what the add-on holds stays
    Detach {
        /// The add-on's name
        name: String,
        #[command(flatten)]
        app: App,
    },
    /// Back an add-on up
    Backup {
        /// Its name
        name: String,
    },
    /// List the backups of an add-on
    Backups {
        /// Its name
        name: String,
    },
    /// Write what a backup holds to a file
    Download {
        /// The add-on's name
        name: String,
        /// The backup
        backup: String,
        /// The file; `-` is standard output
        file: PathBuf,
    },
    /// Remove a backup
    RemoveBackup {
        /// The add-on's name
        name: String,
        /// The backup
        backup: String,
    },
    /// Put what a backup holds in place of what an add-on holds
    Restore {
        /// The add-on's name
        name: String,
        /// A backup of it, or of another one of its kind
        backup: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Remove an add-on, what it holds, and its backups
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Stacks {
    /// List stacks and what is in use
    List,
    /// Make a stack anew from current packages; later builds use it
    Update {
        /// Its name: debian-12
        stack: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Plan {
    /// What `ps scale` would do
    Scale {
        /// PROCESS=COUNT
        #[arg(required = true, value_name = "PROCESS=COUNT")]
        counts: Vec<String>,
        #[command(flatten)]
        app: App,
    },
    /// What `config set` would do
    ConfigSet {
        /// NAME=VALUE
        #[arg(required = true, value_name = "NAME=VALUE")]
        variables: Vec<String>,
        #[command(flatten)]
        app: App,
    },
    /// What `releases rollback` would do
    Rollback {
        /// Its number
        release: String,
        #[command(flatten)]
        app: App,
    },
    /// What `apps destroy` would do
    Destroy(App),
}
