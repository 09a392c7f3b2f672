//! The table that is served, and its replacement.
//!
//! Order of a publication: compile, swap, take removed targets out, write the snapshot,
//! acknowledge. Whoever reads the acknowledgement may give a removed target's address away once
//! its last request has left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use berth_model::RouteTable;
use tokio::sync::broadcast;

use super::Router;
use crate::config::Config;
use crate::control::wire::{Draining, Up};
use crate::middleware::Middlewares;
use crate::snapshot;
use crate::table::{Table, TableError};
use crate::target::Target;
use crate::upstream::Pool;

pub(crate) struct Routes {
    table: ArcSwap<Table>,
    /// Idle connections to the Wasm worker.
    worker: Arc<Pool>,
    publishing: tokio::sync::Mutex<()>,
    /// Removed targets that may still have requests.
    leaving: Mutex<Vec<Weak<Target>>>,
}

impl Routes {
    /// The snapshot's table, or none.
    pub(super) fn load_from(
        config: &Config,
        events: &broadcast::Sender<Up>,
        middlewares: &Middlewares,
    ) -> Self {
        let found = snapshot::load(&config.folder).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the table snapshot; waiting to be told");
            None
        });
        let worker = Arc::new(Pool::of_worker(config));
        let compiled = found.map(|source| {
            let new = |target: &_| Target::new(target, config, events.clone(), &worker);
            Table::compile(&source, &Table::default(), config, new, |wanted| {
                middlewares.link(wanted)
            })
        });
        let table = match compiled {
            Some(Ok(table)) => table,
            Some(Err(error)) => {
                tracing::error!(%error, "the table snapshot cannot be served; waiting to be told");
                Table::default()
            }
            None => Table::default(),
        };
        Self {
            table: ArcSwap::from_pointee(table),
            worker,
            publishing: tokio::sync::Mutex::new(()),
            leaving: Mutex::default(),
        }
    }

    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Table>> {
        self.table.load()
    }

    /// Serves `source` from now on, or says why not.
    pub(crate) async fn publish(&self, router: &Arc<Router>, source: RouteTable) -> Up {
        let _one_at_a_time = self.publishing.lock().await;
        let before = self.table.load_full();
        let config = &router.config;
        let new = |target: &_| Target::new(target, config, router.events.clone(), &self.worker);
        let link = |wanted: &_| router.middlewares.link(wanted);
        let table = match Table::compile(&source, &before, config, new, link) {
            Ok(table) => Arc::new(table),
            Err(error) => return refused(&source, &before, &error),
        };
        self.table.store(Arc::clone(&table));
        router.middlewares.keep_only(&source);
        let gone = before.targets.iter().filter(|(key, _)| !table.targets.contains_key(*key));
        for (_, target) in gone {
            self.take_out(target, config);
        }
        let generation = source.generation;
        let folder = config.folder.clone();
        let written = tokio::task::spawn_blocking(move || snapshot::save(&folder, &source)).await;
        let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = &written {
            // Traffic first: the table is served, and the control process is told.
            tracing::error!(%error, generation, "cannot write the table snapshot");
        }
        Up::Ack { generation, saved: written.is_ok() }
    }

    /// Every pool of idle connections.
    pub(crate) fn each_pool(&self, mut what: impl FnMut(&Pool)) {
        what(&self.worker);
        for target in self.load().targets.values() {
            target.own_pool().map(&mut what);
        }
    }

    /// Removed targets that still have requests.
    pub(super) fn leaving(&self) -> Vec<Draining> {
        let mut leaving = self.lock();
        leaving.retain(|target| target.upgrade().is_some_and(|target| !target.is_drained()));
        let counted = leaving
            .iter()
            .filter_map(Weak::upgrade)
            .map(|target| Draining { instance: target.instance, in_flight: target.in_flight() });
        counted.collect()
    }

    fn take_out(&self, target: &Arc<Target>, config: &Config) {
        target.remove();
        if target.is_drained() {
            return;
        }
        let mut leaving = self.lock();
        leaving.retain(|target| target.upgrade().is_some_and(|target| !target.is_drained()));
        leaving.push(Arc::downgrade(target));
        let (target, drain) = (Arc::downgrade(target), config.deadlines.drain);
        tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            if let Some(target) = target.upgrade() {
                target.cut_off();
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Target>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(source: &RouteTable, before: &Table, error: &TableError) -> Up {
    Up::Refused {
        generation: source.generation,
        current: before.generation,
        reason: error.to_string(),
    }
}
