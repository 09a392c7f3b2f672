//! One request: a fresh store, the guest, and its response.

use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use berth_model::log::LogStream;
use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::body::{AppBody, Failure, Guest as GuestTask};
use super::powers::AppPowers;
use super::{App, AppError, AppHost, Place};
use crate::limits::{self, Fault, Guest, GuestError, MemoryLimiter, Meter, Refused, Sandbox};
use crate::lines::{Excess, Lines, Sink};
use crate::outbound::{OutboundError, SendLimits};
use crate::powers::wit::berth::http_out::http_out;
use crate::powers::wit::berth::kv::kv;
use crate::powers::wit::berth::secrets::secrets;
use crate::powers::wit::berth::types::types;

/// Header of the worker's own errors, which apps cannot set.
pub(crate) const ERROR_HEADER: HeaderName = HeaderName::from_static("berth-error");
/// Most that a guest hands over in one write to a body.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// State of an app's store: that of the powers, and what `wasi:http` needs.
pub(super) struct State {
    powers: crate::powers::State,
    http: WasiHttpCtx,
    outgoing: Outgoing,
}

impl Guest for State {
    fn sandbox(&mut self) -> &mut Sandbox {
        &mut self.powers.sandbox
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.powers.sandbox.view()
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.powers.sandbox.meter.count_host_call();
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.powers.sandbox.table,
            hooks: &mut self.outgoing,
        }
    }
}

/// `wasi:http/outgoing-handler` by our own way out. The implementation that comes with the engine
/// resolves names and connects by itself, so it is not even linked.
struct Outgoing(Arc<AppPowers>);

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, HttpError>> + Send> {
        let powers = Arc::clone(&self.0);
        Box::new(async move {
            let answer = powers.send(request, send_limits(options)).await.map_err(code_of)?;
            let answer = answer.map(|body| body.map_err(code_of).boxed_unsync());
            let done: Box<dyn Future<Output = _> + Send> = Box::new(async { Ok(()) });
            Ok((answer, done))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}

/// What the guest asks for, within our bounds.
fn send_limits(options: Option<RequestOptions>) -> SendLimits {
    let ours = SendLimits::default();
    let options = options.unwrap_or_default();
    let within = |asked: Option<Duration>, most: Duration| asked.map_or(most, |it| it.min(most));
    SendLimits {
        connect: within(options.connect_timeout, ours.connect),
        first_byte: within(options.first_byte_timeout, ours.first_byte),
        between_bytes: within(options.between_bytes_timeout, ours.between_bytes),
        ..ours
    }
}

/// The error code of `wasi:http` that says it best.
fn code_of(error: OutboundError) -> HttpError {
    match error {
        OutboundError::Denied { .. } => HttpError::HttpRequestDenied,
        OutboundError::Prohibited { .. } => HttpError::DestinationIpProhibited,
        OutboundError::Invalid(_) => HttpError::HttpRequestUriInvalid,
        OutboundError::Name { reason, .. } => {
            HttpError::DnsError { rcode: Some(reason), info_code: None }
        }
        OutboundError::Unreachable { .. } => HttpError::ConnectionRefused,
        OutboundError::Tls { .. } => HttpError::TlsCertificateError,
        OutboundError::Timeout("connecting", _) => HttpError::ConnectionTimeout,
        OutboundError::Timeout(..) => HttpError::HttpResponseTimeout,
        OutboundError::TooLarge("request", max) => HttpError::HttpRequestBodySize(Some(max)),
        OutboundError::TooLarge(_, max) => HttpError::HttpResponseBodySize(Some(max)),
        OutboundError::Busy => HttpError::ConnectionLimitReached,
        OutboundError::Protocol { .. } => HttpError::HttpProtocolError,
    }
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    // What each app may do with them, its session says.
    types::add_to_linker::<_, HasSelf<crate::powers::State>>(linker, |s| &mut s.powers)?;
    kv::add_to_linker::<_, HasSelf<crate::powers::State>>(linker, |s| &mut s.powers)?;
    secrets::add_to_linker::<_, HasSelf<crate::powers::State>>(linker, |s| &mut s.powers)?;
    http_out::add_to_linker::<_, HasSelf<crate::powers::State>>(linker, |s| &mut s.powers)
}

/// Runs the guest on the request and gives its response, whose body may still be coming.
pub(super) async fn answer<B>(
    host: &AppHost,
    app: Arc<App>,
    pre: ProxyPre<State>,
    place: Place,
    request: Request<B>,
) -> Result<Response<AppBody>, AppError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Display,
{
    let limits = app.config.limits;
    let what = format!("{} {}", request.method(), request.uri().path());
    let bodiless = request.method() == Method::HEAD;
    let sink = sink(host, &app);
    let meter = Arc::new(Meter::new(limits));
    let sandbox = Sandbox::new(
        Arc::clone(&meter),
        MemoryLimiter::new(&limits, Some(host.budget.clone())),
        wasi(&app, &sink, &meter),
    );
    let state = State {
        powers: crate::powers::State { sandbox, session: app.session.clone() },
        http: WasiHttpCtx::new(),
        outgoing: Outgoing(Arc::clone(&app.powers)),
    };
    let mut store = limits::armed_store(&host.running.engine, state);
    let incoming = incoming(&mut store, request)?;
    let (sender, mut head) = oneshot::channel();
    let outparam = store
        .data_mut()
        .http()
        .new_response_outparam(sender)
        .map_err(|error| AppError::BadRequest(error.to_string()))?;
    app.counters.requests.fetch_add(1, Ordering::Relaxed);
    let report = Report { app, sink, what };
    let failure = Failure::default();
    let run = Run {
        report: report.clone(),
        pre,
        store,
        meter,
        failure: Arc::clone(&failure),
        _place: place,
    };
    let mut guest = Box::pin(run.drive(incoming, outparam));
    let first = async {
        tokio::select! {
            biased;
            // It runs here until its head is there. Most have ended by then: a task for each would
            // wake another thread.
            run = &mut guest => (head.try_recv().ok(), Some(run)),
            head = &mut head => (head.ok(), None),
        }
    };

    let reply_max = Duration::from_millis(u64::from(limits.reply_ms_max));
    let error = match tokio::time::timeout(reply_max, first).await {
        // It would switch the connection to the router to another protocol, or announce a second head.
        Ok((Some(Ok(response)), _)) if response.status().is_informational() => trap(format!(
            "the component answered with status {}, which apps cannot",
            response.status()
        )),
        Ok((Some(Ok(response)), ended)) => {
            let (mut parts, body) = response.into_parts();
            parts.headers.remove(ERROR_HEADER);
            let guest = match ended {
                Some(run) => {
                    // What it held is given back after its answer is on the way.
                    tokio::spawn(async move { drop(run) });
                    GuestTask::ended()
                }
                None => GuestTask::new(tokio::spawn(guest).abort_handle(), bodiless),
            };
            return Ok(Response::from_parts(parts, AppBody::new(body, failure, guest)));
        }
        Ok((Some(Err(code)), _)) => trap(format!("the component answered with an error: {code}")),
        // Why, was noted and reported before.
        Ok((None, _)) => match take(&failure) {
            Some(error) => return Err(error),
            None => trap("the component ended without an answer".to_owned()),
        },
        Err(_) => AppError::Guest(GuestError {
            fault: Fault::Timeout,
            message: format!("the component did not answer within {} ms", limits.reply_ms_max),
        }),
    };
    report.failed(&error);
    Err(error)
}

/// Who hears of a failure: the app's log and its counters.
#[derive(Clone)]
struct Report {
    app: Arc<App>,
    sink: Sink,
    /// Method and path; a query may hold secrets.
    what: String,
}

impl Report {
    fn failed(&self, failure: &AppError) {
        self.app.counters.failures.fetch_add(1, Ordering::Relaxed);
        let text = format!("{} failed: {failure}", crate::lines::printable(&self.what, 512));
        for line in text.lines() {
            (self.sink)(LogStream::System, line, false);
        }
    }
}

fn trap(message: String) -> AppError {
    AppError::Guest(GuestError { fault: Fault::Trap, message })
}

fn take(failure: &OnceLock<AppError>) -> Option<AppError> {
    Some(match failure.get()? {
        AppError::Guest(error) => AppError::Guest(error.clone()),
        _ => AppError::Overload,
    })
}

fn incoming<B>(
    store: &mut Store<State>,
    request: Request<B>,
) -> Result<Resource<HostIncomingRequest>, AppError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Display,
{
    // The router says how the client came.
    let secure = request.headers().get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let scheme = if secure { Scheme::Https } else { Scheme::Http };
    let request =
        request.map(|body| body.map_err(|error| HttpError::InternalError(Some(error.to_string()))));
    store
        .data_mut()
        .http()
        .new_incoming_request(scheme, request)
        .map_err(|error| AppError::BadRequest(error.to_string()))
}

fn sink(host: &AppHost, app: &App) -> Sink {
    let (log, instance) = (Arc::clone(&host.log), app.config.instance);
    Arc::new(move |stream, line, partial| log.line(instance, stream, line, partial))
}

fn wasi(app: &App, sink: &Sink, meter: &Arc<Meter>) -> WasiCtx {
    let lines = |stream| Lines::new(stream, Arc::clone(sink), Arc::clone(meter), Excess::Dropped);
    WasiCtx::builder()
        .envs(&app.config.env.0)
        .stdout(lines(LogStream::Stdout))
        .stderr(lines(LogStream::Stderr))
        .max_random_size(1024 * 1024)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

/// A guest on its way.
struct Run {
    report: Report,
    pre: ProxyPre<State>,
    store: Store<State>,
    meter: Arc<Meter>,
    failure: Failure,
    _place: Place,
}

impl Run {
    /// Runs the guest to its end, and gives itself back: what the guest held goes with it.
    async fn drive(
        mut self,
        incoming: Resource<HostIncomingRequest>,
        outparam: Resource<HostResponseOutparam>,
    ) -> Self {
        let (pre, store) = (&self.pre, &mut self.store);
        let ended = self
            .meter
            .bound(async {
                let proxy = pre.instantiate_async(&mut *store).await?;
                proxy.wasi_http_incoming_handler().call_handle(store, incoming, outparam).await
            })
            .await;
        let failure = match ended {
            Some(Ok(())) => return self,
            Some(Err(error)) => self.explain(&error),
            None => AppError::Guest(GuestError {
                fault: Fault::Timeout,
                message: limits::limit_message(Fault::Timeout, self.meter.limits()),
            }),
        };
        self.report.failed(&failure);
        // Before the store and with it the guest's streams go.
        let _ = self.failure.set(failure);
        self
    }

    fn explain(&self, error: &wasmtime::Error) -> AppError {
        let refused = self.store.data().powers.sandbox.memory.refused();
        let pool_is_full = error.downcast_ref::<PoolConcurrencyLimitError>().is_some();
        if pool_is_full || refused == Some(Refused::Shared) {
            return AppError::Overload;
        }
        AppError::Guest(limits::explain(error, &self.meter, refused.is_some()))
    }
}

impl Drop for Run {
    /// Also counts a guest that was ended because nobody waited for it any more.
    fn drop(&mut self) {
        let counters = &self.report.app.counters;
        counters.cpu_ns.fetch_add(self.meter.cpu_ns(), Ordering::Relaxed);
        let peak_bytes = self.store.data().powers.sandbox.memory.peak_bytes();
        counters.memory_peak_bytes.fetch_max(peak_bytes, Ordering::Relaxed);
    }
}
