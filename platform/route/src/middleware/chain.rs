//! What a request passes before its target, and its response on the way back.

use std::sync::Arc;

use berth_extensions::middleware::{Middleware, MiddlewareError, Reply, RequestHead, ResponseHead};
use berth_model::extension::{ExtensionId, OnFailure};
use http::{HeaderMap, StatusCode};

use super::Link;

/// The middlewares of a route, in the order of a request.
pub(crate) struct Chain(Box<[Link]>);

/// An extension answers in the app's place.
pub(crate) struct Replied {
    pub(crate) reply: Reply,
    pub(crate) extension: ExtensionId,
    /// How many of the chain it passed.
    pub(crate) passed: usize,
}

/// An extension failed, and nothing may pass without it.
pub(crate) struct Failed(pub(crate) ExtensionId);

impl Chain {
    /// A chain of these; `None` when there are none.
    pub(crate) fn of(links: Vec<Link>) -> Option<Arc<Self>> {
        (!links.is_empty()).then(|| Arc::new(Self(links.into())))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The longest body that one of them may see, bytes.
    pub(crate) fn body_bytes_max(&self) -> Option<u64> {
        let loaded = self.0.iter().filter_map(|link| link.stage.0.load_full());
        loaded.filter_map(|middleware| middleware.body_bytes_max()).max()
    }

    /// Shows a request to each, until one replies. The request comes back as they changed it.
    pub(crate) async fn on_request(
        &self,
        mut head: RequestHead,
    ) -> (RequestHead, Result<Option<Replied>, Failed>) {
        for (passed, link) in self.0.iter().enumerate() {
            let Some(middleware) = link.stage.0.load_full() else {
                match link.failed() {
                    Ok(()) => continue,
                    Err(failed) => return (head, Err(failed)),
                }
            };
            if !middleware.filters_requests() {
                continue;
            }
            let (back, result) = middleware.on_request(head).await;
            head = back;
            match result {
                Ok(None) => {}
                Ok(Some(reply)) => {
                    let extension = link.extension.clone();
                    return (head, Ok(Some(Replied { reply, extension, passed })));
                }
                Err(error) => {
                    if let Err(failed) = link.failed_with(&middleware, &error) {
                        return (head, Err(failed));
                    }
                }
            }
        }
        (head, Ok(None))
    }

    /// Shows a response to the first so many, from the last of them to the first.
    pub(crate) async fn on_response(
        &self,
        first: usize,
        path: &str,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Result<(), Failed> {
        for link in self.0.iter().take(first).rev() {
            let Some(middleware) = link.stage.0.load_full() else {
                link.failed()?;
                continue;
            };
            if !middleware.filters_responses() {
                continue;
            }
            let head =
                ResponseHead { status, path: path.to_owned(), headers: std::mem::take(headers) };
            let (back, result) = middleware.on_response(head).await;
            *headers = back.headers;
            if let Err(error) = result {
                link.failed_with(&middleware, &error)?;
            }
        }
        Ok(())
    }
}

impl Link {
    fn failed(&self) -> Result<(), Failed> {
        match self.on_failure {
            OnFailure::Open => Ok(()),
            OnFailure::Closed => Err(Failed(self.extension.clone())),
        }
    }

    fn failed_with(&self, _: &Middleware, error: &MiddlewareError) -> Result<(), Failed> {
        tracing::debug!(extension = %self.extension, %error, "a middleware failed");
        self.failed()
    }
}
