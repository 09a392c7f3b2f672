//! Sending a request, and sending it again.

use std::sync::Arc;
use std::time::Instant;

use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::{Exchange, Outgoing, check_framing, us_since};
use crate::body::RequestBody;
use crate::fault::Fault;
use crate::headers::BERTH_INSTANCE;
use crate::router::Router;
use crate::table::Route;
use crate::target::{Endpoint, Entered, Target};
use crate::upstream::{Lease, Pool, Sent};

/// How often a request may find that its target has just been removed.
const LOOKS_MAX: usize = 16;

/// An app's answer, with everything that is held until it is complete.
pub(super) struct Answer<R = Response<Incoming>> {
    pub(super) response: R,
    pub(super) lease: Lease,
    pub(super) entered: Entered,
    pub(super) slot: Option<OwnedSemaphorePermit>,
}

impl Answer {
    /// The answer alone, and what is held.
    pub(super) fn split(self) -> (Response<Incoming>, Answer<()>) {
        let Self { response, lease, entered, slot } = self;
        (response, Answer { response: (), lease, entered, slot })
    }
}

/// Why an attempt did not lead to an answer.
enum Failed {
    /// The target never saw the request.
    Unseen(Fault),
    /// The target may have begun to work on it.
    Seen(Fault),
}

/// Sends a request to a target of its route, and to another one where that is safe.
pub(super) async fn send(
    router: &Arc<Router>,
    exchange: &mut Exchange,
    mut route: Arc<Route>,
    mut outgoing: Outgoing,
) -> Result<Answer, Fault> {
    let queued = Instant::now();
    let slot = route.app.slot().await?;
    exchange.books.queue_us = us_since(queued);
    let mut tried: Vec<Arc<Target>> = Vec::new();
    let mut last = Fault::NoHealthy;
    loop {
        let Some(entered) = enter(router, &mut route, &outgoing, &tried) else {
            return Err(last);
        };
        exchange.books.target = Some(entered.instance);
        let result = attempt(router, exchange, &entered, &mut outgoing).await;
        let (fault, again) = match result {
            Ok((response, lease)) => {
                entered.succeeded();
                return Ok(Answer { response, lease, entered, slot: Some(slot) });
            }
            Err(Failed::Unseen(fault)) => (fault, true),
            Err(Failed::Seen(fault)) => (fault, false),
        };
        if fault.is_of_target() && !entered.is_removed() {
            route.report_failure(&entered, &router.config);
        }
        // A target that was just removed explains the failure: the next try is the table's.
        let free = entered.is_removed() && tried.len() < LOOKS_MAX;
        let retries = exchange.books.retries;
        if !again
            || !(free || (retries < router.config.limits.retries_max && route.app.may_retry()))
        {
            return Err(fault);
        }
        exchange.books.retries += 1;
        last = fault;
        tried.push(Arc::clone(&entered));
    }
}

/// Enters an untried target, looking the route up again when the table has moved on.
fn enter(
    router: &Router,
    route: &mut Arc<Route>,
    outgoing: &Outgoing,
    tried: &[Arc<Target>],
) -> Option<Entered> {
    if !tried.is_empty() {
        refresh(router, route, outgoing);
    }
    for _ in 0..LOOKS_MAX {
        if let Some(entered) = route.pick(tried)?.enter() {
            return Some(entered);
        }
        refresh(router, route, outgoing);
    }
    None
}

fn refresh(router: &Router, route: &mut Arc<Route>, outgoing: &Outgoing) {
    // The slot is the first app's: a host that moved to another app meanwhile is not followed.
    if let Some(now) = router.routes.load().find(outgoing.host.as_str())
        && now.app.id == route.app.id
    {
        *route = Arc::clone(now);
    }
}

/// One target: its pooled connections while they turn out dead, then a new one.
async fn attempt(
    router: &Arc<Router>,
    exchange: &mut Exchange,
    target: &Arc<Target>,
    outgoing: &mut Outgoing,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let deadlines = &router.config.deadlines;
    let repeatable = outgoing.method.is_idempotent();
    let idle_max = if repeatable { deadlines.pool_idle } else { deadlines.pool_idle_unsafe };
    let mut fresh = false;
    loop {
        let pooled = if fresh { None } else { Lease::pooled(target, idle_max) };
        let mut lease = match pooled {
            Some(lease) => lease,
            None => {
                let started = Instant::now();
                let connected = connect(router, target).await;
                exchange.books.connect_us += us_since(started);
                connected.map_err(Failed::Unseen)?
            }
        };
        let has_body = outgoing.upload.is_some();
        let spare = (lease.reused && (repeatable || has_body)).then(|| outgoing.headers.clone());
        let request = build(target, outgoing, &lease).await;
        let request = request.ok_or(Failed::Seen(Fault::Reset))?;
        lease.link.begin(deadlines.response_head);
        let started = Instant::now();
        let sent = lease.send(request).await;
        exchange.books.first_byte_us = us_since(started);
        match sent {
            Sent::Answered(response) => {
                let asked = outgoing.asked.upgrade.as_ref();
                check_answer(&response, asked).map_err(Failed::Seen)?;
                return Ok((response, lease));
            }
            Sent::Unsent(request) => {
                let reused = lease.reused;
                recover(outgoing, request);
                if !reused {
                    return Err(Failed::Unseen(Fault::Reset));
                }
            }
            Sent::Failed(error) => {
                let fault = blame(&error, &lease, target, outgoing);
                // The app closed an idle connection while the request was on its way.
                let stale = lease.reused && fault == Fault::Reset && !lease.link.is_answered();
                drop(lease);
                match spare {
                    Some(headers) if stale && unread(outgoing) => outgoing.headers = headers,
                    _ => return Err(Failed::Seen(fault)),
                }
                exchange.books.retries += 1;
                fresh = true;
            }
        }
    }
}

/// Whether an app's answer can be passed on: framed in one way only, and switching only to the
/// protocol that was asked for.
fn check_answer(response: &Response<Incoming>, asked: Option<&HeaderValue>) -> Result<(), Fault> {
    let headers = response.headers();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let given = headers.get(header::UPGRADE);
        let same = asked
            .zip(given)
            .is_some_and(|(asked, given)| asked.as_bytes().eq_ignore_ascii_case(given.as_bytes()));
        return if same { Ok(()) } else { Err(Fault::BadResponse) };
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let one_length = match (lengths.next(), lengths.next()) {
        (None, _) => true,
        (Some(only), None) => !only.as_bytes().contains(&b','),
        (Some(_), Some(_)) => false,
    };
    let coded = headers.contains_key(header::TRANSFER_ENCODING);
    if !one_length || (coded && headers.contains_key(header::CONTENT_LENGTH)) {
        return Err(Fault::BadResponse);
    }
    check_framing(headers).map_err(|_| Fault::BadResponse)
}

/// A new connection. A router without a descriptor to spare gives up its idle connections first.
async fn connect(router: &Router, target: &Arc<Target>) -> Result<Lease, Fault> {
    match Lease::connect(target, &router.connector).await {
        Err(Fault::Overload) => {
            router.routes.each_pool(Pool::clear);
            tokio::task::yield_now().await;
            Lease::connect(target, &router.connector).await
        }
        connected => connected,
    }
}

/// Whether nothing of the client's body was read, or there is none.
fn unread(outgoing: &Outgoing) -> bool {
    outgoing.upload.as_ref().is_none_or(|upload| upload.is_unread())
}

/// The request for this connection; nothing when its body is gone.
async fn build(
    target: &Target,
    outgoing: &mut Outgoing,
    lease: &Lease,
) -> Option<Request<RequestBody>> {
    let body = match &outgoing.upload {
        Some(upload) => upload.body(&lease.link).await?,
        None => RequestBody::EMPTY,
    };
    let mut request = Request::new(body);
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = Uri::clone(&outgoing.uri);
    *request.headers_mut() = std::mem::take(&mut outgoing.headers);
    if let Endpoint::Wasm(_, instance) = &target.endpoint {
        request.headers_mut().insert(BERTH_INSTANCE, instance.clone());
    }
    Some(request)
}

/// Takes back what was not sent. Dropping the body puts the client's unread one back.
fn recover(outgoing: &mut Outgoing, mut request: Request<RequestBody>) {
    outgoing.headers = std::mem::take(request.headers_mut());
    outgoing.headers.remove(BERTH_INSTANCE);
}

/// Who failed, and how.
fn blame(error: &hyper::Error, lease: &Lease, target: &Target, outgoing: &Outgoing) -> Fault {
    if let Some(fault) = outgoing.upload.as_ref().and_then(|upload| upload.fault()) {
        return fault;
    }
    let sent = outgoing.upload.as_ref().is_none_or(|upload| upload.is_done());
    match () {
        () if lease.link.is_timed_out() && sent => Fault::HeaderTimeout,
        () if lease.link.is_timed_out() => Fault::BodyTimeout,
        () if target.cut.is_cancelled() => Fault::DrainCut,
        () if error.is_parse() => Fault::BadResponse,
        () => Fault::Reset,
    }
}
