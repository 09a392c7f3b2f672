//! The command line: noun, then verb.

mod access;
mod audit;
mod author;
mod buildpack;
mod ext;
mod measures;
mod verbs;

use clap::{Args, Parser, Subcommand};

pub(crate) use access::*;
pub(crate) use audit::*;
pub(crate) use author::*;
pub(crate) use buildpack::*;
pub(crate) use ext::*;
pub(crate) use measures::*;
pub(crate) use verbs::*;

/// Deploy and run apps on Berth
///
/// Exit codes: 0 done, 1 failed or refused, 2 wrong usage or a question that nobody could be asked,
/// 3 platform unreachable (safe to try again). `run` and `exec` pass on the exit code of their command.
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

/// A verb of something that an app has; without one, its list.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct OfApp<V: Subcommand> {
    #[command(flatten)]
    pub(crate) app: App,
    #[command(subcommand)]
    pub(crate) verb: Option<V>,
}

/// A verb; without one, the list.
#[derive(Args, Debug)]
pub(crate) struct OrList<V: Subcommand> {
    #[command(subcommand)]
    pub(crate) verb: Option<V>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create, list, show, rename and destroy apps
    Apps(OrList<Apps>),
    /// List instances; scale, restart, stop and start them
    Ps(Ps),
    /// Read and change an app's environment
    Config(OfApp<Config>),
    /// Start, list, show and cancel builds
    Builds(OfApp<Builds>),
    /// List, show and compare releases; roll back
    Releases(OfApp<Releases>),
    /// Print an app's log
    Logs(Logs),
    /// Run a command in a new container of the app's image
    Run(Run),
    /// Run a command in a running instance
    Exec(Exec),
    /// Manage an app's domains
    Domains(OfApp<Domains>),
    /// List, create and remove folders that outlive an app's releases
    Volumes(OfApp<Volumes>),
    /// Make databases and caches, attach them to apps, back them up and restore them
    Addons(OrList<Addons>),
    /// Send logs to syslog, GELF or HTTPS
    Drains(OrList<Drains>),
    /// Show what an app's requests and instances take, or the machine
    Stats(Stats),
    /// Tell when a measure is above or below a value
    Alerts(OrList<Alerts>),
    /// Show who did what, when and from where
    Audit(OrList<Audit>),
    /// Manage the people who use the platform, and their roles
    Users(OrList<Users>),
    /// Manage the SSH keys that may push
    Keys(OrList<Keys>),
    /// Manage access tokens
    Tokens(OrList<Tokens>),
    /// Manage teams
    Teams(OrList<Teams>),
    /// Manage the stacks that apps run on
    Stacks(OrList<Stacks>),
    /// List, add, remove, order and write buildpacks
    Buildpack(OrList<Buildpack>),
    /// Install, look after and write extensions
    Ext(OrList<Ext>),
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

/// Verbs about extensions.
#[derive(Subcommand, Debug)]
pub(crate) enum Ext {
    #[command(flatten)]
    Operator(Operator),
    #[command(flatten)]
    Author(Author),
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Ps {
    #[command(flatten)]
    pub(crate) app: App,
    #[command(subcommand)]
    pub(crate) verb: Option<PsVerb>,
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
    use clap::{CommandFactory, Parser};

    use super::Arguments;

    #[test]
    fn a_noun_without_a_verb_is_its_list() {
        for noun in [
            "addons",
            "alerts",
            "apps",
            "audit",
            "buildpack",
            "drains",
            "ext",
            "keys",
            "tokens",
            "teams",
            "users",
            "stacks",
        ] {
            assert!(Arguments::try_parse_from(["berth", noun]).is_ok(), "{noun}");
        }
        for noun in ["ps", "config", "builds", "releases", "domains", "volumes"] {
            assert!(Arguments::try_parse_from(["berth", noun, "--app", "a"]).is_ok(), "{noun}");
        }
    }

    #[test]
    fn the_token_to_be_revoked_is_not_the_one_to_revoke_with() {
        let parsed =
            Arguments::try_parse_from(["berth", "--token", "own", "tokens", "revoke", "tok_1"]);
        assert_eq!(parsed.unwrap().global.token, "own");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
