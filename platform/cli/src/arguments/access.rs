//! The verbs of `berth users`, `berth teams`, `berth tokens` and `berth keys`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand, Debug)]
pub(crate) enum Users {
    /// List users with their roles
    List,
    /// Create a user and print a link to sign in for the first time, good once
    Create {
        /// The name
        name: String,
        /// viewer, developer, operator or admin; without it the user has no role yet
        #[arg(long)]
        role: Option<String>,
        /// The team that the role is in [default: the token's]
        #[arg(long, requires = "role")]
        team: Option<String>,
    },
    /// Show a user
    Show {
        /// The name
        name: String,
    },
    /// Print a new link to sign in, good once: for who has lost a password
    Link {
        /// The name
        name: String,
    },
    /// Give a user a role in a team, in the place of the one before
    Grant {
        /// The name of the user
        name: String,
        /// viewer, developer, operator or admin; an admin acts in every team
        role: String,
        /// The team [default: the token's]
        #[arg(long)]
        team: Option<String>,
    },
    /// Take a user's role in a team
    Revoke {
        /// The name of the user
        name: String,
        /// The team [default: the token's]
        #[arg(long)]
        team: Option<String>,
    },
    /// Let a user do nothing any more; sessions end, tokens and keys are good for nothing
    Disable {
        /// The name
        name: String,
    },
    /// Let a user who was disabled act again
    Enable {
        /// The name
        name: String,
    },
    /// Remove a user with the sessions, tokens and keys
    Remove {
        /// The name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List where a user is signed in
    Sessions {
        /// The name
        name: String,
    },
    /// End a session of a user, or all of them
    SignOut {
        /// The name of the user
        name: String,
        /// The session's id [default: every session]
        session: Option<String>,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Keys {
    /// List keys
    List {
        /// Those that act as the user who asks
        #[arg(long)]
        mine: bool,
    },
    /// Add a public key
    Add {
        /// A name for it
        name: String,
        /// File with the public key; `-` is standard input
        file: PathBuf,
        /// The team whose apps it may push to [default: the token's]
        #[arg(long, conflicts_with = "mine")]
        team: Option<String>,
        /// What it may do [default: developer; with --mine, all that the user may]
        #[arg(long)]
        role: Option<String>,
        /// It acts as the user who adds it, in every team of theirs
        #[arg(long)]
        mine: bool,
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
    List {
        /// Those that act as the user who asks
        #[arg(long)]
        mine: bool,
    },
    /// Create a token and print its secret, once
    Create {
        /// A name for it
        #[arg(long)]
        name: Option<String>,
        /// The team it acts in [default: the token's]
        #[arg(long, conflicts_with = "mine")]
        team: Option<String>,
        /// viewer, developer, operator or admin [default: developer; with --mine, all that the user may]
        #[arg(long)]
        role: Option<String>,
        /// It acts as the user who creates it, in every team of theirs
        #[arg(long)]
        mine: bool,
        /// Only for this app; may be given several times
        #[arg(long = "app", short = 'a', value_name = "NAME")]
        apps: Vec<String>,
        /// read, deploy or all: what it may be used for, whatever its role
        #[arg(long, default_value = "all")]
        scope: String,
        /// Invalid after this many days
        #[arg(long)]
        expires_days: Option<u32>,
    },
    /// Make a token invalid
    Revoke {
        /// Its id
        #[arg(value_name = "TOKEN")]
        id: String,
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
    /// Remove a team that has no app, token or key
    Remove {
        /// Its name
        name: String,
    },
}
