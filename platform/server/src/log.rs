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
        .try_init();
}
