//! A request whose route has middlewares: they see it before its target, and the answer after.

use std::sync::Arc;

use berth_extensions::middleware::RequestHead;
use http::Response;
use hyper::upgrade::OnUpgrade;

use super::finish::Finishing;
use super::{Exchange, Outgoing, attempt};
use crate::body::ReplyBody;
use crate::fault::Fault;
use crate::headers;
use crate::middleware::{Chain, Failed, Replied};
use crate::table::Route;

/// Longest body that is gathered for middlewares, whatever they were granted, bytes.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Answers a request, by a middleware or by the app behind all of them.
pub(super) async fn pass(
    chain: Arc<Chain>,
    mut exchange: Box<Exchange>,
    route: Arc<Route>,
    mut outgoing: Outgoing,
    switched: OnUpgrade,
) -> Result<Response<ReplyBody>, (Box<Exchange>, Fault)> {
    match request(&chain, &exchange, &mut outgoing).await {
        Ok(None) => {}
        Ok(Some(replied)) => return reply(&chain, exchange, replied).await,
        Err(Stop::Client(fault)) => return Err((exchange, fault)),
        Err(Stop::Failed(failed)) => return Err(failure(exchange, failed)),
    }
    let router = Arc::clone(&exchange.client.router);
    let answer = match attempt::send(&router, &mut exchange, route, outgoing).await {
        Ok(answer) => answer,
        Err(fault) => return Err((exchange, fault)),
    };
    let mut finishing = Finishing::begin(exchange, answer);
    let path = path(&finishing.exchange);
    let (status, headers) = (finishing.parts.status, &mut finishing.parts.headers);
    match chain.on_response(chain.len(), &path, status, headers).await {
        Ok(()) => Ok(finishing.end(switched)),
        Err(failed) => Err(failure(finishing.exchange, failed)),
    }
}

/// Why a request goes no further.
enum Stop {
    /// Its body did not come.
    Client(Fault),
    Failed(Failed),
}

async fn request(
    chain: &Chain,
    exchange: &Exchange,
    outgoing: &mut Outgoing,
) -> Result<Option<Replied>, Stop> {
    let body = match (chain.body_bytes_max(), &outgoing.upload) {
        (Some(bytes_max), Some(upload)) => {
            upload.look(bytes_max.min(BODY_BYTES_MAX)).await.map_err(Stop::Client)?
        }
        (Some(_), None) => Some(bytes::Bytes::new()),
        (None, _) => None,
    };
    let head = RequestHead {
        method: outgoing.method.clone(),
        scheme: "http",
        host: outgoing.host.as_str().to_owned(),
        path: path(exchange),
        client: exchange.client.ip,
        headers: std::mem::take(&mut outgoing.headers),
        body,
    };
    let (head, result) = chain.on_request(head).await;
    outgoing.headers = head.headers;
    result.map_err(Stop::Failed)
}

/// Answers by a middleware. Those before it in the chain see its answer as they see an app's.
async fn reply(
    chain: &Chain,
    mut exchange: Box<Exchange>,
    replied: Replied,
) -> Result<Response<ReplyBody>, (Box<Exchange>, Fault)> {
    let Replied { reply, extension, passed } = replied;
    let mut headers = reply.headers;
    let path = path(&exchange);
    if let Err(failed) = chain.on_response(passed, &path, reply.status, &mut headers).await {
        return Err(failure(exchange, failed));
    }
    headers.insert(headers::X_REQUEST_ID, exchange.books.id.clone());
    exchange.replied(reply.status, &extension);
    let mut response = Response::new(ReplyBody::page(reply.body, exchange));
    *response.status_mut() = reply.status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn failure(mut exchange: Box<Exchange>, Failed(extension): Failed) -> (Box<Exchange>, Fault) {
    exchange.books.extension = Some(extension);
    (exchange, Fault::Middleware)
}

/// Path and query as they came.
fn path(exchange: &Exchange) -> String {
    exchange.books.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned()
}
