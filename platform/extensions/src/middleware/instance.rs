//! Warm instances, and one call of one of them.
//!
//! An instance is taken out of the pool for a call and put back when that ended well; one that was
//! ended, was refused memory or has served its share of calls is dropped. A caller that goes away
//! takes the instance with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_model::log::LogStream;
use tokio::sync::Semaphore;
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower, Resource, TypedFunc,
};
use wasmtime::Store;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx};

use super::MiddlewareError;
use super::calls::State;
use super::message::{Message, Request, RequestHead, Response, ResponseHead};
use super::shared::Shared;
use super::wit::berth::middleware::types::Reply;
use crate::aot::LoadError;
use crate::engine::Running;
use crate::limits::{self, Fault, GuestError, MemoryBudget, MemoryLimiter, Meter, Sandbox};
use crate::lines::{Excess, Lines, Sink};

/// Calls after which an instance is dropped: what it leaks goes with it.
const CALLS_MAX: u32 = 1_000;
/// Instances that wait for calls.
const IDLE_MAX: usize = 16;

type OnRequest = TypedFunc<(Resource<Request>,), (Option<Reply>,)>;
type OnResponse = TypedFunc<(Resource<Response>,), ()>;

/// Where a component's exports are.
#[derive(Clone, Copy)]
pub(super) struct Exports {
    pub(super) request: Option<ComponentExportIndex>,
    pub(super) response: Option<ComponentExportIndex>,
}

/// The instances of one middleware.
pub(super) struct Instances {
    pub(super) running: Arc<Running>,
    pub(super) pre: InstancePre<State>,
    pub(super) exports: Exports,
    pub(super) budget: MemoryBudget,
    /// Calls at once, of all middlewares.
    pub(super) places: Arc<Semaphore>,
    pub(super) idle: Mutex<Vec<Warm>>,
}

/// One instance; not made yet where it has no functions.
pub(super) struct Warm {
    store: Store<State>,
    functions: Option<Functions>,
    meter: Arc<Meter>,
    calls: u32,
    used: Instant,
}

struct Functions {
    request: Option<OnRequest>,
    response: Option<OnResponse>,
}

impl Instances {
    /// Hands a request over. `None` comes back without a reply.
    pub(super) async fn on_request(
        &self,
        shared: &Arc<Shared>,
        head: RequestHead,
    ) -> (RequestHead, Result<Option<Reply>, MiddlewareError>) {
        let (head, result) = self.call::<Request, _>(shared, head, |f| f.request.as_ref()).await;
        (head, result.map(|(reply,)| reply))
    }

    /// Hands a response over.
    pub(super) async fn on_response(
        &self,
        shared: &Arc<Shared>,
        head: ResponseHead,
    ) -> (ResponseHead, Result<(), MiddlewareError>) {
        self.call::<Response, _>(shared, head, |f| f.response.as_ref()).await
    }

    /// Makes the first instance, so that a component that cannot start is never swapped in.
    pub(super) async fn prepare(&self, shared: &Arc<Shared>) -> Result<(), LoadError> {
        let _ticking = self.running.ticker.run();
        let mut warm = self.fresh(shared);
        let meter = Arc::clone(&warm.meter);
        match meter.bound(warm.instantiate(self)).await {
            Some(Ok(())) => {
                self.keep(warm);
                Ok(())
            }
            Some(Err(error)) => {
                let ended = warm.explain(&error);
                Err(LoadError::Link(format!("it does not start: {}", ended.message)))
            }
            None => Err(LoadError::Link("it does not start in time".to_owned())),
        }
    }

    async fn call<M, R>(
        &self,
        shared: &Arc<Shared>,
        head: M::Head,
        function: impl FnOnce(&Functions) -> Option<&TypedFunc<(Resource<M>,), R>> + Send,
    ) -> (M::Head, Result<R, MiddlewareError>)
    where
        M: Message,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
        (Resource<M>,): ComponentNamedList + Lower,
    {
        if !shared.allows() {
            return (head, Err(MiddlewareError::Resting));
        }
        let wall_max = Duration::from_millis(u64::from(shared.config.limits.wall_ms_max));
        let place = match self.places.try_acquire() {
            Ok(place) => place,
            Err(_) => match tokio::time::timeout(wall_max, self.places.acquire()).await {
                Ok(Ok(place)) => place,
                _ => {
                    shared.note_refused();
                    return (head, Err(MiddlewareError::Overload));
                }
            },
        };
        let _ticking = self.running.ticker.run();
        let started = Instant::now();
        let mut warm = self.take().unwrap_or_else(|| self.fresh(shared));
        let (head, result) = warm.run::<M, R>(self, head, function).await;
        drop(place);
        let wall_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        shared.note_call(warm.meter.cpu_ns(), wall_ns);
        match result {
            Ok(value) => {
                warm.used = started;
                self.keep(warm);
                (head, Ok(value))
            }
            Err(ended) => {
                drop(warm);
                shared.note_fault(&ended.message);
                (head, Err(MiddlewareError::Guest(ended)))
            }
        }
    }

    fn take(&self) -> Option<Warm> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, warm: Warm) {
        let spent = warm.calls >= CALLS_MAX
            || warm.store.data().sandbox.memory.refused().is_some()
            || warm.functions.is_none();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !spent && idle.len() < IDLE_MAX {
            idle.push(warm);
            return;
        }
        drop(idle);
        drop(warm);
    }

    /// Instances that wait.
    pub(super) fn waiting(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Drops instances that had no call for so long, but for one.
    pub(super) fn sweep(&self, idle_max: Duration) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = 0;
        // The last of them are used first, so the old ones are at the front.
        let old: Vec<Warm> = idle
            .extract_if(.., |warm| {
                kept += 1;
                kept > 1 && warm.used.elapsed() >= idle_max
            })
            .collect();
        drop(idle);
        drop(old);
    }

    fn fresh(&self, shared: &Arc<Shared>) -> Warm {
        let limits = shared.config.limits;
        let meter = Arc::new(Meter::new(limits));
        let sandbox = Sandbox::new(
            Arc::clone(&meter),
            MemoryLimiter::new(&limits, Some(self.budget.clone())),
            stub_wasi(shared, &meter),
        );
        let state = State {
            sandbox,
            shared: Arc::clone(shared),
            request: Request::default(),
            response: Response::default(),
        };
        let store = limits::armed_store(&self.running.engine, state);
        Warm { store, functions: None, meter, calls: 0, used: Instant::now() }
    }
}

impl Warm {
    async fn instantiate(&mut self, of: &Instances) -> wasmtime::Result<()> {
        let instance = of.pre.instantiate_async(&mut self.store).await?;
        let request = of.exports.request.as_ref();
        let response = of.exports.response.as_ref();
        self.functions = Some(Functions {
            request: request.map(|at| instance.get_typed_func(&mut self.store, at)).transpose()?,
            response: response.map(|at| instance.get_typed_func(&mut self.store, at)).transpose()?,
        });
        Ok(())
    }

    /// One call with limits of its own.
    async fn run<M, R>(
        &mut self,
        of: &Instances,
        head: M::Head,
        function: impl FnOnce(&Functions) -> Option<&TypedFunc<(Resource<M>,), R>> + Send,
    ) -> (M::Head, Result<R, GuestError>)
    where
        M: Message,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
        (Resource<M>,): ComponentNamedList + Lower,
    {
        self.calls += 1;
        self.meter.restart();
        limits::rearm(&mut self.store);
        M::lend(head, self.store.data_mut());
        let meter = Arc::clone(&self.meter);
        let ended = meter
            .bound(async {
                if self.functions.is_none() {
                    self.instantiate(of).await?;
                }
                let function = self.functions.as_ref().and_then(function).copied();
                let function = function.ok_or_else(|| wasmtime::format_err!("no such export"))?;
                // There is one message at a time in a store, so its place says nothing.
                function.call_async(&mut self.store, (Resource::new_borrow(0),)).await
            })
            .await;
        let head = M::take_back(self.store.data_mut(), matches!(ended, Some(Ok(_))));
        let result = match ended {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(self.explain(&error)),
            None => Err(GuestError {
                fault: Fault::Timeout,
                message: limits::limit_message(Fault::Timeout, self.meter.limits()),
            }),
        };
        (head, result)
    }

    fn explain(&self, error: &wasmtime::Error) -> GuestError {
        let refused = self.store.data().sandbox.memory.refused().is_some();
        limits::explain(error, &self.meter, refused)
    }
}

/// What ordinary guests of wasm32-wasip2 import without meaning to.
fn stub_wasi(shared: &Arc<Shared>, meter: &Arc<Meter>) -> WasiCtx {
    let writes = Arc::clone(shared);
    let sink: Sink = Arc::new(move |_, line, _| writes.line("debug", line));
    let lines = |stream| Lines::new(stream, Arc::clone(&sink), Arc::clone(meter), Excess::Dropped);
    WasiCtx::builder()
        .stdout(lines(LogStream::Stdout))
        .stderr(lines(LogStream::Stderr))
        .wall_clock(StoppedClock)
        .monotonic_clock(StoppedClock)
        .max_random_size(64 * 1024)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

/// The time of day is a capability of its own.
struct StoppedClock;

impl HostWallClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for StoppedClock {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}
