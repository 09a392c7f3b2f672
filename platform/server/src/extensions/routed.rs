//! What the router tells of the middlewares that it calls.

use std::sync::Arc;

use berth_extensions::middleware::MiddlewareStats;
use berth_model::Digest;
use berth_model::extension::{BreakerRules, BreakerState, ExtensionId};
use berth_route::MiddlewareLine;
use berth_store::ExtensionState;

use super::{Live, Registry};

impl Registry {
    /// A line of the platform in an extension's log.
    pub(crate) fn note(&self, id: &ExtensionId, level: &'static str, text: &str) {
        self.inner.journal.line(id, level, text);
    }

    /// When an extension that fails is called no longer.
    pub(crate) fn breaker_rules(&self) -> BreakerRules {
        self.inner.config.breaker
    }

    /// Lines that came from the router, fit to be shown.
    pub(crate) fn routed_lines(&self, lines: &[MiddlewareLine]) {
        for line in lines {
            let level = match line.level.as_str() {
                "warning" => "warning",
                "error" => "error",
                "debug" => "debug",
                _ => "info",
            };
            self.inner.journal.line(&line.extension, level, &line.text);
        }
    }

    /// The router calls a version of an extension no longer; true when that is until an operator
    /// says otherwise.
    pub(crate) async fn routed_breaker(
        &self,
        id: &ExtensionId,
        component: Digest,
        state: BreakerState,
    ) -> bool {
        let live: Option<Arc<Live>> = self.live(id);
        let news = |live: &Arc<Live>| {
            live.row.version.component == component
                && live.row.state != ExtensionState::Quarantined
        };
        if let Some(live) = live.filter(news) {
            self.broke(&live, state).await;
        }
        state == BreakerState::Quarantined
    }

    /// What middlewares used, in the place of what was told before.
    pub(crate) fn routed_stats(&self, all: &[MiddlewareStats]) {
        for stats in all {
            let live = self.live(&stats.extension);
            if let Some(live) = live.filter(|live| live.row.version.component == stats.component) {
                live.routed(stats);
            }
        }
    }
}
