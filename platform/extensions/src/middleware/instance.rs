//! Warm instances, and one call of one of them.
//!
//! An instance is taken out of the pool for a call and put back when that ended well; one that was
//! ended, was refused memory or has served its share of calls is dropped. A caller that goes away
//! takes the instance with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::Store;
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower, Resource, TypedFunc,
};

use super::MiddlewareError;
use super::message::{Message, Request, RequestHead, Response, ResponseHead};
use super::shared::Shared;
use super::wit::berth::middleware::types::Reply;
use crate::aot::LoadError;
use crate::engine::Running;
use crate::limits::{self, Fault, GuestError, Limits, MemoryBudget, MemoryLimiter, Meter, Sandbox};
use crate::powers::{self, Session, State};

/// Calls after which an instance is dropped: what it leaks goes with it.
const CALLS_MAX: u32 = 1_000;
/// Calls of one middleware at once: one that waits in each of them leaves places for the others.
pub(super) const CALLS_AT_ONCE_MAX: usize = 16;
/// Longest start of a component that is loaded, milliseconds; of processor time it has what a call
/// has.
const START_WALL_MS_MAX: u32 = 5_000;
/// Instances that wait for calls.
const IDLE_MAX: usize = CALLS_AT_ONCE_MAX;

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
    /// Calls at once, of this one.
    pub(super) own_places: Semaphore,
    /// Calls at once, of all middlewares.
    pub(super) places: Arc<Semaphore>,
    pub(super) idle: Mutex<Vec<Warm>>,
}

/// One instance; not made yet where it has no functions.
pub(super) struct Warm {
    store: Store<State>,
    /// Places in its table.
    request_at: u32,
    response_at: u32,
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
        let at = |warm: &Warm| warm.request_at;
        let function = |functions: &Functions| functions.request;
        let (head, result) = self.call::<Request, _>(shared, head, at, function).await;
        (head, result.map(|(reply,)| reply))
    }

    /// Hands a response over.
    pub(super) async fn on_response(
        &self,
        shared: &Arc<Shared>,
        head: ResponseHead,
    ) -> (ResponseHead, Result<(), MiddlewareError>) {
        let at = |warm: &Warm| warm.response_at;
        self.call::<Response, _>(shared, head, at, |functions| functions.response).await
    }

    /// Makes an instance, so that a component that cannot start is never swapped in. No request
    /// waits for it: a machine that is busy just now is no reason to refuse a component.
    pub(super) async fn prepare(&self, shared: &Arc<Shared>) -> Result<(), LoadError> {
        let _ticking = self.running.ticker.run();
        let link = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
        let limits = Limits { wall_ms_max: START_WALL_MS_MAX, ..shared.config.limits };
        let mut warm = self.fresh(shared, limits).map_err(link)?;
        let meter = Arc::clone(&warm.meter);
        match meter.bound(warm.instantiate(self)).await {
            // Its clock is not that of a call, so no call gets it.
            Some(Ok(())) => Ok(()),
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
        at: impl Fn(&Warm) -> u32 + Send,
        function: impl FnOnce(&Functions) -> Option<TypedFunc<(Resource<M>,), R>> + Send,
    ) -> (M::Head, Result<R, MiddlewareError>)
    where
        M: Message,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
        (Resource<M>,): ComponentNamedList + Lower,
    {
        if !shared.allows() {
            return (head, Err(MiddlewareError::Resting));
        }
        let Some(place) = self.place(shared).await else {
            shared.note_refused();
            return (head, Err(MiddlewareError::Overload));
        };
        let _ticking = self.running.ticker.run();
        let started = Instant::now();
        let warm = self.take().map_or_else(|| self.fresh(shared, shared.config.limits), Ok);
        let Ok(mut warm) = warm else {
            shared.note_refused();
            return (head, Err(MiddlewareError::Overload));
        };
        let (head, result) = warm.run::<M, R>(self, shared, head, at, function).await;
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

    /// Waits for a place no longer than a call may take.
    async fn place(&self, shared: &Shared) -> Option<[SemaphorePermit<'_>; 2]> {
        if let (Ok(own), Ok(place)) = (self.own_places.try_acquire(), self.places.try_acquire()) {
            return Some([own, place]);
        }
        let wall_max = Duration::from_millis(u64::from(shared.config.limits.wall_ms_max));
        let both = async {
            // Whoever waits for one of its own holds none of the others'.
            let own = self.own_places.acquire().await.ok()?;
            Some([own, self.places.acquire().await.ok()?])
        };
        tokio::time::timeout(wall_max, both).await.ok().flatten()
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

    fn fresh(&self, shared: &Arc<Shared>, limits: Limits) -> wasmtime::Result<Warm> {
        let session = powers::veiled(Session { limits, ..shared.session() }).0;
        let meter = Arc::new(Meter::new(limits));
        let mut sandbox = Sandbox::new(
            Arc::clone(&meter),
            MemoryLimiter::new(&limits, Some(self.budget.clone())),
            powers::wasi(&session, &meter),
        );
        let request_at = sandbox.table.push(Request::default())?.rep();
        let response_at = sandbox.table.push(Response::default())?.rep();
        let store = limits::armed_store(&self.running.engine, State { sandbox, session });
        let used = Instant::now();
        Ok(Warm { store, request_at, response_at, functions: None, meter, calls: 0, used })
    }
}

impl Warm {
    async fn instantiate(&mut self, of: &Instances) -> wasmtime::Result<()> {
        let instance = of.pre.instantiate_async(&mut self.store).await?;
        let request = of.exports.request.as_ref();
        let response = of.exports.response.as_ref();
        self.functions = Some(Functions {
            request: request.map(|at| instance.get_typed_func(&mut self.store, at)).transpose()?,
            response: response
                .map(|at| instance.get_typed_func(&mut self.store, at))
                .transpose()?,
        });
        Ok(())
    }

    /// One call with limits of its own.
    async fn run<M, R>(
        &mut self,
        of: &Instances,
        shared: &Shared,
        head: M::Head,
        at: impl Fn(&Self) -> u32 + Send,
        function: impl FnOnce(&Functions) -> Option<TypedFunc<(Resource<M>,), R>> + Send,
    ) -> (M::Head, Result<R, GuestError>)
    where
        M: Message,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
        (Resource<M>,): ComponentNamedList + Lower,
    {
        self.calls += 1;
        self.meter.restart();
        limits::rearm(&mut self.store);
        let at = at(self);
        let body_bytes_max = shared.body_bytes_max().unwrap_or(0);
        let lent = M::lend(head, body_bytes_max);
        if let Err(lent) = put(&mut self.store, at, lent) {
            let message = "its place for messages is gone".to_owned();
            return (lent.take_back(false), Err(GuestError { fault: Fault::Trap, message }));
        }
        let meter = Arc::clone(&self.meter);
        let ended = meter
            .bound(async {
                if self.functions.is_none() {
                    self.instantiate(of).await?;
                }
                let function = self.functions.as_ref().and_then(function);
                let function = function.ok_or_else(|| wasmtime::format_err!("no such export"))?;
                function.call_async(&mut self.store, (Resource::new_borrow(at),)).await
            })
            .await;
        let changed = matches!(ended, Some(Ok(_)));
        let head = take::<M>(&mut self.store, at).take_back(changed);
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

/// Puts a message into its place.
fn put<M: Message>(store: &mut Store<State>, at: u32, message: M) -> Result<(), M> {
    match store.data_mut().sandbox.table.get_mut(&Resource::<M>::new_own(at)) {
        Ok(place) => {
            *place = message;
            Ok(())
        }
        Err(_) => Err(message),
    }
}

fn take<M: Message>(store: &mut Store<State>, at: u32) -> M {
    let place = store.data_mut().sandbox.table.get_mut(&Resource::<M>::new_own(at));
    place.map(std::mem::take).unwrap_or_default()
}
