//! What is written down about a request.

use std::sync::Arc;
use std::time::Instant;

use berth_model::extension::ExtensionId;
use berth_model::{AppName, InstanceId};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use hyper::body::Incoming;
use uuid::Uuid;

use super::us_since;
use crate::app::{App, Finished};
use crate::body::Upload;
use crate::clock;
use crate::fault::Fault;
use crate::front::Client;
use crate::headers;
use crate::table::Route;

/// One request's books; closed when dropped.
pub(crate) struct Exchange {
    pub(crate) client: Arc<Client>,
    pub(crate) upload: Option<Arc<Upload>>,
    pub(super) books: Books,
    started: Instant,
    app: Option<Arc<App>>,
    is_complete: bool,
}

/// The lines of the books that end up in the access log.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) at_ms: u64,
    pub(crate) id: HeaderValue,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) app: Option<AppName>,
    pub(crate) release: Option<u64>,
    pub(crate) target: Option<InstanceId>,
    pub(crate) status: u16,
    /// The router's own code; `None` when the app answered.
    pub(crate) code: Option<&'static str>,
    /// The extension that answered in the app's place, or failed.
    pub(crate) extension: Option<ExtensionId>,
    /// The answer had begun and did not end.
    pub(crate) cut: bool,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u32,
    pub(crate) queue_us: u64,
    pub(crate) connect_us: u64,
    pub(crate) first_byte_us: u64,
    pub(crate) total_us: u64,
}

impl Default for Books {
    fn default() -> Self {
        Self {
            at_ms: 0,
            id: HeaderValue::from_static(""),
            method: Method::default(),
            uri: Uri::default(),
            version: Version::default(),
            host: None,
            app: None,
            release: None,
            target: None,
            status: 0,
            code: None,
            extension: None,
            cut: false,
            bytes_in: 0,
            bytes_out: 0,
            retries: 0,
            queue_us: 0,
            connect_us: 0,
            first_byte_us: 0,
            total_us: 0,
        }
    }
}

impl Exchange {
    pub(super) fn begin(client: Arc<Client>, request: &Request<Incoming>) -> Box<Self> {
        let at_ms = clock::unix_ms();
        let id = headers::request_id(request.headers()).unwrap_or_else(|| new_id(at_ms));
        Box::new(Self {
            client,
            upload: None,
            started: Instant::now(),
            app: None,
            is_complete: false,
            books: Books {
                at_ms,
                id,
                method: request.method().clone(),
                uri: request.uri().clone(),
                version: request.version(),
                ..Books::default()
            },
        })
    }

    pub(super) fn found(&mut self, route: &Route) {
        self.app = Some(Arc::clone(&route.app));
        self.books.app = Some(route.name.clone());
        self.books.release = route.release;
    }

    /// The app's answer begins.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.books.status = status.as_u16();
    }

    /// The router answers, all of it.
    pub(super) fn refused(&mut self, fault: Fault) {
        self.books.status = fault.status();
        self.books.code = Some(fault.code());
        self.is_complete = true;
    }

    /// An extension answers, all of it.
    pub(super) fn replied(&mut self, status: StatusCode, extension: &ExtensionId) {
        self.books.status = status.as_u16();
        self.books.extension = Some(extension.clone());
        self.is_complete = true;
    }

    /// A part of the answer's body goes to the client.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.books.bytes_out += bytes as u64;
    }

    /// A tunnel ended, having carried so much.
    pub(crate) fn tunnelled(&mut self, bytes_in: u64, bytes_out: u64) {
        self.books.bytes_in += bytes_in;
        self.books.bytes_out += bytes_out;
        self.is_complete = true;
    }

    /// The answer may go on for hours: copies what lies in the connection's buffers, so that they
    /// are not kept as long.
    pub(super) fn settle(&mut self) {
        let books = &mut self.books;
        let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
        books.host = books.host.as_ref().and_then(copy);
        books.id = copy(&books.id).unwrap_or(HeaderValue::from_static(""));
        books.uri = books.uri.path().parse().unwrap_or_default();
    }

    /// The answer's last byte was handed on.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// The answer cannot be completed.
    pub(crate) fn cut(&mut self, fault: Fault) {
        self.books.code = Some(fault.code());
        self.books.cut = true;
        self.is_complete = true;
    }

    pub(crate) fn is_upload_done(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.is_done())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.client.watch.finish();
        let books = &mut self.books;
        books.total_us = us_since(self.started);
        books.bytes_in += self.upload.as_ref().map_or(0, |upload| upload.bytes());
        if !self.is_complete {
            books.code = Some(Fault::ClientGone.code());
            books.cut = books.status != 0;
            if books.status == 0 {
                books.status = Fault::ClientGone.status();
            }
        }
        if let Some(app) = &self.app {
            app.count(&Finished {
                status: books.status,
                ours: books.code.is_some(),
                retries: books.retries,
                bytes_in: books.bytes_in,
                bytes_out: books.bytes_out,
                total_us: books.total_us,
            });
        }
        self.client.router.log.request(self.client.ip, books);
    }
}

fn new_id(at_ms: u64) -> HeaderValue {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let id = uuid::Builder::from_unix_timestamp_millis(at_ms, &random).into_uuid();
    let mut space = Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut space);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
