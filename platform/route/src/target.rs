//! One target: its requests in flight, its health as requests show it, its connections.
//!
//! A target outlives the table that named it as long as requests hold it. Once removed it takes
//! no new request: whoever enters counts itself first and looks at the mark second, whoever
//! removes marks first and looks at the count second, so that one of the two always sees the
//! other. When the last request leaves a removed target, that is reported once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_model::{InstanceId, TargetAddress};
use http::HeaderValue;
use tokio::sync::broadcast;
use tokio::task::{AbortHandle, Id};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::Config;
use crate::control::wire::Up;
use crate::upstream::Pool;

/// How many ejections lengthen the next one.
const EJECTIONS_MAX: u32 = 10;

pub(crate) struct Target {
    pub(crate) instance: InstanceId,
    pub(crate) endpoint: Endpoint,
    /// Idle connections: its own, or those to the Wasm worker, which all its apps share.
    pub(crate) pool: Arc<Pool>,
    /// Whatever is still in flight some time after the removal ends.
    pub(crate) cut: CancellationToken,
    /// The drivers of the connections that requests hold.
    held: Mutex<HashMap<Id, AbortHandle>>,
    in_flight: AtomicUsize,
    removed: AtomicBool,
    drained: AtomicBool,
    errors: AtomicU32,
    ejections: AtomicU32,
    ejected_until_ms: AtomicU64,
    events: broadcast::Sender<Up>,
}

/// Where a target listens.
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    /// The Wasm worker's socket, and the header value that names the instance to it.
    Wasm(Arc<Path>, HeaderValue),
}

impl Target {
    pub(crate) fn new(
        target: &berth_model::Target,
        config: &Config,
        events: broadcast::Sender<Up>,
        worker: &Arc<Pool>,
    ) -> Self {
        let (endpoint, pool) = match target.address {
            TargetAddress::Tcp(address) => {
                (Endpoint::Tcp(address), Arc::new(Pool::of_target(config)))
            }
            TargetAddress::Wasm => {
                let instance = HeaderValue::try_from(target.instance.to_string())
                    .unwrap_or(HeaderValue::from_static(""));
                let socket = config.wasm_socket.as_path().into();
                (Endpoint::Wasm(socket, instance), Arc::clone(worker))
            }
        };
        Self {
            instance: target.instance,
            endpoint,
            pool,
            cut: CancellationToken::new(),
            held: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            removed: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            errors: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            events,
        }
    }

    /// Counts a request in, unless the target was removed.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Entered> {
        self.in_flight.fetch_add(1, SeqCst);
        let entered = Entered(Arc::clone(self));
        (!self.is_removed()).then_some(entered)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(SeqCst)
    }

    /// Whether it was removed and its last request has left.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(SeqCst)
    }

    /// Takes the target out: no new request, idle connections closed.
    pub(crate) fn remove(&self) {
        self.removed.store(true, SeqCst);
        if let Some(pool) = self.own_pool() {
            pool.clear();
        }
        if self.in_flight.load(SeqCst) == 0 {
            self.report_drained();
        }
    }

    /// Its idle connections, where no other target uses them.
    pub(crate) fn own_pool(&self) -> Option<&Pool> {
        match self.endpoint {
            Endpoint::Tcp(_) => Some(&self.pool),
            Endpoint::Wasm(..) => None,
        }
    }

    /// A request holds a connection from now on.
    pub(crate) fn hold(&self, driver: &AbortHandle) {
        self.held().insert(driver.id(), driver.clone());
        // Whoever cuts says so first and looks at what is held second.
        if self.cut.is_cancelled() {
            driver.abort();
        }
    }

    /// The request is done with it.
    pub(crate) fn release(&self, driver: &AbortHandle) {
        self.held().remove(&driver.id());
    }

    /// Ends what is in flight.
    pub(crate) fn cut_off(&self) {
        self.cut.cancel();
        for driver in self.held().values() {
            driver.abort();
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Id, AbortHandle>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until_ms.load(Relaxed) > now_ms
    }

    /// The target answered.
    pub(crate) fn succeeded(&self) {
        if self.errors.load(Relaxed) != 0 {
            self.errors.store(0, Relaxed);
        }
        if self.ejected_until_ms.load(Relaxed) != 0 && self.ejected_until_ms.swap(0, Relaxed) != 0 {
            self.send(Up::Health { instance: self.instance, ejected: false });
        }
    }

    /// The target failed; true when it has failed so often in a row that it may be ejected.
    pub(crate) fn failed(&self, errors_max: u32) -> bool {
        self.errors.fetch_add(1, Relaxed) + 1 >= errors_max
    }

    /// Keeps requests away for `step_ms`, longer each time.
    pub(crate) fn eject(&self, step_ms: u64) {
        let times = (self.ejections.fetch_add(1, Relaxed) + 1).min(EJECTIONS_MAX);
        self.errors.store(0, Relaxed);
        self.ejected_until_ms.store(clock::now_ms() + step_ms * u64::from(times), Relaxed);
        self.send(Up::Health { instance: self.instance, ejected: true });
    }

    fn leave(&self) {
        if self.in_flight.fetch_sub(1, SeqCst) == 1 && self.is_removed() {
            self.report_drained();
        }
    }

    fn report_drained(&self) {
        if !self.drained.swap(true, SeqCst) {
            self.send(Up::Drained { instance: self.instance });
        }
    }

    fn send(&self, event: Up) {
        // Nobody listens while the control process is away; its next hello tells the state.
        let _ = self.events.send(event);
    }
}

/// A request at a target; leaves when dropped.
pub(crate) struct Entered(Arc<Target>);

impl std::ops::Deref for Entered {
    type Target = Arc<Target>;

    fn deref(&self) -> &Arc<Target> {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
    }
}
