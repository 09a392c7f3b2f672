//! The verbs of `berth audit`.

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub(crate) enum Audit {
    /// List who did what to which thing, when and from where, newest first
    List(AuditList),
}

#[derive(Args, Debug, Default)]
pub(crate) struct AuditList {
    /// Only what was done under this name: that of a token or a key, or `system`
    #[arg(long, value_name = "NAME")]
    pub(crate) actor: Option<String>,
    /// Only this kind, `app.scaled`, or all that begin so, `app.*`; refusals are `access.*`
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only what was done to this app; one that is gone has its history still
    #[arg(long, short = 'a', value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Only what was done to things of this team
    #[arg(long, value_name = "NAME")]
    pub(crate) team: Option<String>,
    /// Only what was done to the thing with this id
    #[arg(long, value_name = "ID")]
    pub(crate) subject: Option<String>,
    /// Only from then on: 2h, 7d, 2026-01-31, 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only before then
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub(crate) until: Option<String>,
    /// How many at most [default: 50; 10 with --follow]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: Option<u32>,
    /// Also what the platform did by itself
    #[arg(long)]
    pub(crate) all: bool,
    /// Go on with what happens, oldest first, also when the platform starts again
    #[arg(long, short)]
    pub(crate) follow: bool,
}
