//! The verbs of `berth alerts`, and `berth stats`.

use clap::{Args, Subcommand};

use super::App;

#[derive(Args, Debug)]
pub(crate) struct Stats {
    #[command(flatten)]
    pub(crate) app: App,
    /// The machine and the platform's own programs instead of an app; for administrators
    #[arg(long, conflicts_with = "app")]
    pub(crate) host: bool,
    /// Since when: 15m, 2h, 7d, 2026-01-31
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub(crate) since: String,
    /// From one point to the next: 30s, 5m
    #[arg(long, value_name = "TIME")]
    pub(crate) step: Option<String>,
    /// Only these measures, with commas between them
    #[arg(long, value_name = "NAMES")]
    pub(crate) names: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Alerts {
    /// List alerts, and which are raised
    List {
        /// Only those of this app
        #[arg(long, short = 'a', value_name = "NAME")]
        app: Option<String>,
    },
    /// Tell when a measure is above or below a value: `berth alerts add latency_p95 above 500 --for 5m`
    Add {
        /// The measure, as `berth stats` names it
        measure: String,
        /// above or below
        #[arg(value_parser = ["above", "below"])]
        comparison: String,
        /// A number in the measure's unit, or a size such as 400MiB
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// How long, before it is told: 30s, 5m [default: at once]
        #[arg(long = "for", value_name = "TIME")]
        lasting: Option<String>,
        #[command(flatten)]
        app: App,
        /// A measure of the machine instead of an app; for administrators
        #[arg(long, conflicts_with = "app")]
        host: bool,
    },
    /// Remove an alert
    Remove {
        /// Its id
        alert: String,
    },
}
