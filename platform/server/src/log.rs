//! What the platform's own processes say, on standard error.

use tracing_subscriber::EnvFilter;

/// Begins to write; `BERTH_LOG` chooses what, as `tracing` filters are written.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("BERTH_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,russh=warn,hyper=warn"));
    // A second call, in tests, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // It would tell of a line that cannot be written (a full disk under a log file) by a print
        // that panics when it cannot be written either, and end whoever logged.
        .log_internal_errors(false)
        .try_init();
}
