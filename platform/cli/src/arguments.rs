//! The command line: noun, then verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Deploy and run apps on Berth
///
/// Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 3 platform unreachable (safe to try
/// again). `run` and `exec` pass on the exit code of their command.
#[derive(Parser, Debug)]
#[command(name = "berth", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Debug)]
pub(crate) struct Global {
    /// URL of the platform's API
    #[arg(long, global = true, env = "BERTH_SERVER", default_value = "http://127.0.0.1:8081")]
    pub(crate) server: String,
    /// Access token
    #[arg(
        long,
        global = true,
        env = "BERTH_TOKEN",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) token: String,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but data and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// The app; without it, the one of this folder's git remote.
#[derive(Args, Debug)]
pub(crate) struct App {
    /// Name of the app [default: the one of this folder's git remote]
    #[arg(id = "app", long = "app", short = 'a', value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create, list, show, rename and destroy apps
    #[command(subcommand)]
    Apps(Apps),
    /// List instances; scale, restart, stop and start them
    Ps(Ps),
    /// Read and change an app's environment
    #[command(subcommand)]
    Config(Config),
    /// Start, list, show and cancel builds
    #[command(subcommand)]
    Builds(Builds),
    /// List, show and compare releases; roll back
    #[command(subcommand)]
    Releases(Releases),
    /// Print an app's log
    Logs(Logs),
    /// Run a command in a new container of the app's image
    Run(Run),
    /// Run a command in a running instance
    Exec(Exec),
    /// Manage an app's domains
    #[command(subcommand)]
    Domains(Domains),
    /// Manage the SSH keys that may push
    #[command(subcommand)]
    Keys(Keys),
    /// Manage access tokens
    #[command(subcommand)]
    Tokens(Tokens),
    /// Manage teams
    #[command(subcommand)]
    Teams(Teams),
    /// Manage the stacks that apps run on
    #[command(subcommand)]
    Stacks(Stacks),
    /// Show what a change would do, without making it
    #[command(subcommand)]
    Plan(Plan),
    /// Open an app in the browser
    Open(App),
    /// Stop the platform: apps, router and agent; data stays
    Down(Down),
    /// Check that this machine reaches the platform and that the platform is well
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Answer git's question for a password with the access token
    #[command(hide = true)]
    GitCredential {
        /// What git wants: get, store or erase
        operation: String,
    },
}

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
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Ps {
    #[command(flatten)]
    pub(crate) app: App,
    #[command(subcommand)]
    pub(crate) verb: Option<PsVerb>,
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
    /// Print one value
    Get {
        /// Name
        name: String,
        #[command(flatten)]
        app: App,
    },
    /// List names and values
    List(App),
    /// Print all variables in a form that other programs read
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

#[derive(Args, Debug)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) app: App,
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, default_value_t = 100)]
    pub(crate) lines: u32,
    /// Only this process: web, worker, run
    #[arg(short, long)]
    pub(crate) process: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) app: App,
    /// Go on without this terminal; prints the run's id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// End it after this many seconds
    #[arg(long)]
    pub(crate) timeout_s: Option<u32>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) app: App,
    /// The instance: web.1, or its id
    pub(crate) instance: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
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
pub(crate) enum Keys {
    /// List keys
    List,
    /// Add a public key
    Add {
        /// A name for it
        name: String,
        /// File with the public key; `-` is standard input
        file: PathBuf,
        /// The team whose apps it may push to [default: the token's]
        #[arg(long)]
        team: Option<String>,
        /// What it may do
        #[arg(long, default_value = "developer")]
        role: String,
    },
    /// Remove a key
    Remove {
        /// Its id or its name
        key: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Tokens {
    /// List tokens, never their secrets
    List,
    /// Create a token and print its secret, once
    Create {
        /// A name for it
        #[arg(long)]
        name: Option<String>,
        /// The team it acts in [default: the token's]
        #[arg(long)]
        team: Option<String>,
        /// viewer, developer, operator or admin
        #[arg(long, default_value = "developer")]
        role: String,
        /// Invalid after this many days
        #[arg(long)]
        expires_days: Option<u32>,
    },
    /// Make a token invalid
    Revoke {
        /// Its id
        token: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Teams {
    /// List teams
    List,
    /// Create a team
    Create {
        /// Its name
        name: String,
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

#[derive(Args, Debug)]
pub(crate) struct Down {
    /// How long each instance may take to end, milliseconds
    #[arg(long, default_value_t = 10_000)]
    pub(crate) grace_ms: u32,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
