//! Middlewares between a route and its targets.
//!
//! Takes what the control process loads and what tables name; gives each route its chain. A place
//! in a chain exists as soon as somebody names it and is filled when its code is there: until then,
//! and whenever it fails, the request is refused or goes on, as its installation says. Nothing is
//! started before the first load. Code, configuration and secrets are in memory only.

mod chain;
mod reports;

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use berth_extensions::middleware::{Middleware, MiddlewareConfig, MiddlewareHost, MiddlewareStats};
use berth_model::extension::{ExtensionId, OnFailure};
use berth_model::{Digest, RouteMiddleware, RouteTable};
use tokio::sync::{OnceCell, broadcast};

pub(crate) use chain::{Chain, Failed, Replied};

use crate::control::wire::Up;
use reports::Reports;

/// How long an instance waits for a call before it is dropped.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// All middlewares of the router.
pub(crate) struct Middlewares {
    host: OnceCell<MiddlewareHost>,
    places: Mutex<HashMap<Digest, Place>>,
    reports: Arc<Reports>,
}

struct Place {
    stage: Arc<Stage>,
    /// Calls at the last report.
    reported: u64,
}

/// Where a loaded middleware is, or will be.
#[derive(Default)]
pub(crate) struct Stage(ArcSwapOption<Middleware>);

/// A place in a chain.
pub(crate) struct Link {
    stage: Arc<Stage>,
    extension: ExtensionId,
    on_failure: OnFailure,
}

impl Middlewares {
    pub(crate) fn new(events: broadcast::Sender<Up>) -> Self {
        Self {
            host: OnceCell::new(),
            places: Mutex::default(),
            reports: Arc::new(Reports::new(events)),
        }
    }

    /// Loads a middleware; the descriptor is its code.
    pub(crate) async fn load(
        &self,
        config: MiddlewareConfig,
        beside: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let code = beside.into_iter().next().ok_or("its code is missing")?;
        let stage = self.stage(config.load);
        if stage.0.load().is_some() {
            return Ok(());
        }
        let sink = Arc::clone(&self.reports);
        let host = self
            .host
            .get_or_try_init(|| async {
                let host = MiddlewareHost::new(sink).map_err(|error| error.to_string())?;
                Reports::start(&self.reports);
                Ok::<_, String>(host)
            })
            .await?;
        let loaded = host.load(config, code).await.map_err(|error| error.to_string())?;
        stage.0.store(Some(Arc::new(loaded)));
        Ok(())
    }

    /// Calls a version of an extension again.
    pub(crate) fn resume(&self, extension: &ExtensionId, component: Digest) {
        if let Some(host) = self.host.get() {
            host.resume(extension, component);
        }
    }

    /// The place of a middleware that a table names.
    pub(crate) fn link(&self, wanted: &RouteMiddleware) -> Link {
        Link {
            stage: self.stage(wanted.load),
            extension: wanted.extension.clone(),
            on_failure: wanted.on_failure,
        }
    }

    /// Forgets what the table does not name; calls under way end on it.
    pub(crate) fn keep_only(&self, table: &RouteTable) {
        let mut places = self.lock();
        if places.is_empty() {
            return;
        }
        let named: HashSet<Digest> = table
            .routes
            .iter()
            .flat_map(|route| route.middleware.iter().map(|wanted| wanted.load))
            .collect();
        let gone: Vec<Place> =
            places.extract_if(|load, _| !named.contains(load)).map(|(_, place)| place).collect();
        drop(places);
        drop(gone);
    }

    /// What is loaded.
    pub(crate) fn loaded(&self) -> Vec<Digest> {
        let places = self.lock();
        let loaded = places.iter().filter(|(_, place)| place.stage.0.load().is_some());
        loaded.map(|(load, _)| *load).collect()
    }

    /// What is called no longer until somebody says so.
    pub(crate) fn quarantined(&self) -> Vec<(ExtensionId, Digest)> {
        self.host.get().map(MiddlewareHost::quarantined).unwrap_or_default()
    }

    /// What each used that had calls since the last report.
    pub(crate) fn report_changes(&self) -> Vec<MiddlewareStats> {
        let mut places = self.lock();
        places
            .values_mut()
            .filter_map(|place| {
                let stats = place.stage.0.load_full()?.stats();
                let calls = stats.calls + stats.refused;
                (std::mem::replace(&mut place.reported, calls) != calls).then_some(stats)
            })
            .collect()
    }

    /// Drops instances that nobody needs.
    pub(crate) fn sweep(&self) {
        if self.host.get().is_none() {
            return;
        }
        let stages: Vec<_> = self.lock().values().map(|place| Arc::clone(&place.stage)).collect();
        for stage in stages {
            if let Some(middleware) = stage.0.load_full() {
                middleware.sweep(IDLE_MAX);
            }
        }
    }

    /// Somebody listens to events now.
    pub(crate) fn heard(&self) {
        self.reports.heard();
    }

    fn stage(&self, load: Digest) -> Arc<Stage> {
        let new = || Place { stage: Arc::default(), reported: 0 };
        Arc::clone(&self.lock().entry(load).or_insert_with(new).stage)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
