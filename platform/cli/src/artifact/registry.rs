//! A registry over HTTP, as the OCI distribution specification 1.1 has it.
//!
//! Whatever it sends is bounded, and so is the time it has. The login goes to the registry alone,
//! and to the server that it names for tokens; never to where it redirects.

use std::future::Future;
use std::time::Duration;

use berth_model::Digest;
use berth_model::text::printable;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::login::Login;
use super::moved::Moved;
use super::place::Place;
use super::token::{self, Proof};
use super::{Limits, digest, form};

/// Most bytes that are read of an answer that says why not.
const COMPLAINT_BYTES_MAX: u64 = 64 * 1024;
/// Bytes that are handed to the connection at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Digest of what was stored, as the registry sees it.
const STORED_DIGEST: &str = "docker-content-digest";

/// Why a registry did not do it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No answer, or one that ended early.
    Http(reqwest::Error),
    /// It took too long.
    Slow,
    /// It does not take the login, or wants one.
    Refused,
    /// It says no, and why.
    Status { status: StatusCode, said: String },
    /// It sends more than is taken.
    TooLarge { what: &'static str, bytes_max: u64 },
    /// What it sends is not what the digest names.
    OtherBytes,
    /// What is there is something else.
    NoExtension(String),
    /// It does not do what registries do.
    Odd(String),
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        // Addresses may hold signatures.
        Self::Http(error.without_url())
    }
}

/// One name in a registry.
pub(super) struct Registry<'p> {
    place: &'p Place,
    http: reqwest::Client,
    /// What the requests' paths are below.
    base: Url,
    login: Login,
    proof: Option<Proof>,
    limits: Limits,
}

impl<'p> Registry<'p> {
    /// Begins to speak to the registry of a place.
    pub(super) async fn at(
        place: &'p Place,
        login: Login,
        limits: Limits,
    ) -> Result<Self, Trouble> {
        let http = reqwest::Client::builder()
            .https_only(!place.is_loopback())
            .referer(false)
            .connect_timeout(limits.connect)
            .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")));
        // No proxy of the environment stands before this machine itself.
        let http = if place.is_loopback() { http.no_proxy() } else { http };
        let http = http.build()?;
        let scheme = if is_plain(&http, place, &limits).await { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}/", place.host, place.name);
        let base = base.parse().map_err(|_| Trouble::Odd("its address is none".to_owned()))?;
        Ok(Self { place, http, base, login, proof: None, limits })
    }

    fn url(&self, below: &str) -> Result<Url, Trouble> {
        self.base.join(below).map_err(|_| Trouble::Odd("an address is none".to_owned()))
    }

    /// A request, with proof where it goes to the registry itself.
    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let own = url.origin() == self.base.origin();
        let request = self.http.request(method, url);
        match (&self.proof, &self.login) {
            (Some(Proof::Token(token)), _) if own => request.bearer_auth(token),
            (Some(Proof::Login), Login::Password { name, password }) if own => {
                request.basic_auth(name, Some(password))
            }
            _ => request,
        }
    }

    /// Sends a request, and once more with proof where the registry asks for it.
    async fn send(
        &mut self,
        method: Method,
        url: Url,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Trouble> {
        let wait = self.limits.answer;
        let first = dress(self.request(method.clone(), url.clone()));
        let answer = within(wait, first.send()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let proof = token::obtain(&self.http, answer.headers(), &self.login, &self.limits).await?;
        self.proof = Some(proof);
        within(wait, dress(self.request(method, url)).send()).await
    }

    /// The manifest that the place names.
    pub(super) async fn manifest(&mut self) -> Result<Vec<u8>, Trouble> {
        let url = self.url(&format!("manifests/{}", self.place.version()))?;
        let answer = self
            .send(Method::GET, url, |request| request.header(ACCEPT, form::ANY_MANIFEST))
            .await?;
        let answer = checked(answer, &self.limits).await?;
        body(answer, "the manifest", self.limits.manifest_bytes, &self.limits).await
    }

    /// A blob of so many bytes. Whether they are the right ones, the caller looks.
    pub(super) async fn blob(
        &mut self,
        wanted: &Digest,
        size: u64,
        moved: &Moved,
    ) -> Result<Vec<u8>, Trouble> {
        let url = self.url(&format!("blobs/{wanted}"))?;
        let answer = self.send(Method::GET, url, |request| request).await?;
        let answer = checked(answer, &self.limits).await?;
        pieces(answer, size, &self.limits, |piece| moved.add(piece))
            .await?
            .ok_or(Trouble::OtherBytes)
    }

    /// Puts a blob there, if it is not yet: an upload of one piece, which all registries take.
    pub(super) async fn put_blob(
        &mut self,
        blob: Vec<u8>,
        moved: Option<Moved>,
    ) -> Result<(), Trouble> {
        let (digest, length) = (digest(&blob), blob.len());
        let url = self.url(&format!("blobs/{digest}"))?;
        let there = self.send(Method::HEAD, url, |request| request).await?;
        if there.status() == StatusCode::OK {
            if let Some(moved) = moved {
                moved.add(length);
            }
            return Ok(());
        }
        let url = self.url("blobs/uploads/")?;
        let begun =
            self.send(Method::POST, url, |request| request.header(CONTENT_LENGTH, 0)).await?;
        let begun = checked(begun, &self.limits).await?;
        let mut into = location(&begun)?;
        into.query_pairs_mut().append_pair("digest", &digest.to_string());
        let blob = Bytes::from(blob);
        let pieces = (0..length).step_by(PIECE_BYTES).map(move |at| {
            let piece = blob.slice(at..length.min(at + PIECE_BYTES));
            if let Some(moved) = &moved {
                moved.add(piece.len());
            }
            Ok::<_, std::io::Error>(piece)
        });
        let request = self
            .request(Method::PUT, into)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, length)
            .body(Body::wrap_stream(futures_util::stream::iter(pieces)));
        // How long sending takes is the line's affair: only the whole is bounded.
        checked(request.send().await?, &self.limits).await.map(drop)
    }

    /// Puts the manifest there under the place's tag, and gives its digest.
    pub(super) async fn put_manifest(&mut self, manifest: Vec<u8>) -> Result<Digest, Trouble> {
        let (own, manifest) = (digest(&manifest), Bytes::from(manifest));
        let url = self.url(&format!("manifests/{}", self.place.version()))?;
        let answer = self
            .send(Method::PUT, url, |request| {
                request.header(CONTENT_TYPE, form::MANIFEST).body(manifest.clone())
            })
            .await?;
        let answer = checked(answer, &self.limits).await?;
        match answer.headers().get(STORED_DIGEST).map(|value| value.as_bytes()) {
            Some(stored) if stored != own.to_string().as_bytes() => Err(Trouble::OtherBytes),
            _ => Ok(own),
        }
    }
}

/// Whether a registry speaks without TLS, which only one on this machine may, as Docker has it. It
/// is asked without login.
async fn is_plain(http: &reqwest::Client, place: &Place, limits: &Limits) -> bool {
    if !place.is_loopback() {
        return false;
    }
    let asked = http.get(format!("http://{}/v2/", place.host)).send();
    // One with TLS answers a 400, or nothing.
    within(limits.answer, asked)
        .await
        .is_ok_and(|answer| matches!(answer.status().as_u16(), 200 | 401))
}

/// Where an upload goes.
fn location(answer: &Response) -> Result<Url, Trouble> {
    answer
        .headers()
        .get(LOCATION)
        .and_then(|value| answer.url().join(value.to_str().ok()?).ok())
        .ok_or_else(|| Trouble::Odd("it does not say where uploads go".to_owned()))
}

/// What comes of a request, if it comes in time.
pub(super) async fn within<T, E: Into<Trouble>>(
    wait: Duration,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    tokio::time::timeout(wait, doing).await.map_err(|_| Trouble::Slow)?.map_err(Into::into)
}

/// The answer, if it is a success; otherwise what it says.
pub(super) async fn checked(answer: Response, limits: &Limits) -> Result<Response, Trouble> {
    #[derive(Deserialize)]
    struct Complaints {
        errors: Vec<Complaint>,
    }
    #[derive(Deserialize)]
    struct Complaint {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = answer.status();
    match status.as_u16() {
        200..=299 => return Ok(answer),
        401 | 403 => return Err(Trouble::Refused),
        _ => {}
    }
    // An explanation that does not come is none.
    let text = pieces(answer, COMPLAINT_BYTES_MAX, limits, |_| {}).await;
    let text = text.ok().flatten().unwrap_or_default();
    let said = match serde_json::from_slice::<Complaints>(&text) {
        Ok(all) => {
            let one = |one: &Complaint| match one.message.is_empty() {
                true => one.code.clone(),
                false => one.message.clone(),
            };
            all.errors.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Err(_) => String::new(),
    };
    Err(Trouble::Status { status, said: printable(&said, 400) })
}

/// The whole of an answer, which is `what`.
pub(super) async fn body(
    answer: Response,
    what: &'static str,
    bytes_max: u64,
    limits: &Limits,
) -> Result<Vec<u8>, Trouble> {
    pieces(answer, bytes_max, limits, |_| {}).await?.ok_or(Trouble::TooLarge { what, bytes_max })
}

/// The whole of an answer, or nothing when it has more bytes than that.
async fn pieces(
    mut answer: Response,
    bytes_max: u64,
    limits: &Limits,
    mut each: impl FnMut(usize),
) -> Result<Option<Vec<u8>>, Trouble> {
    let mut whole = Vec::new();
    while let Some(piece) = within(limits.answer, answer.chunk()).await? {
        if (whole.len() + piece.len()) as u64 > bytes_max {
            return Ok(None);
        }
        each(piece.len());
        whole.extend_from_slice(&piece);
    }
    Ok(Some(whole))
}
