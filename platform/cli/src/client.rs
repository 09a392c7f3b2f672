//! Speaks HTTP to `berthd`; the only way the CLI reaches anything.

use std::io::Write;

use berth_api::{
    AppView, BuildpackView, ExtensionReview, ExtensionView, NeedsApproval, Page, Problem,
};
use futures_util::StreamExt;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// Most bytes of one line of an event stream.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// What a request carries.
enum Body {
    Nothing,
    Json(serde_json::Value),
    Component(Vec<u8>),
}

/// An answer that may have to wait for somebody's yes.
pub(crate) enum Decided<T> {
    /// It is done.
    Done(T),
    /// Nobody said yes to this.
    Asked(Box<ExtensionReview>),
}

/// The platform's API.
pub(crate) struct Client {
    server: String,
    token: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(server: &str, token: &str) -> Result<Self, Failure> {
        let server = server.trim_end_matches('/').to_owned();
        if !server.starts_with("http://") {
            return Err(Failure::usage(format!(
                "the server '{server}' is not of the form http://HOST:PORT"
            )));
        }
        let http = reqwest::Client::builder()
            // Loopback only: a proxy of the environment is never meant.
            .no_proxy()
            // Nor is it TLS: authorities, which take their time to read, are for registries.
            .tls_built_in_root_certs(false)
            .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::failed(error.to_string()))?;
        Ok(Self { server, token: token.to_owned(), http })
    }

    /// The server's base URL.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The bearer token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Response, Failure> {
        let answer = self.exchange(&method, path, body.map_or(Body::Nothing, Body::Json)).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        Err(self.refused(&method, path, status, &text).await)
    }

    async fn exchange(&self, method: &Method, path: &str, body: Body) -> Result<Response, Failure> {
        let request = self
            .http
            .request(method.clone(), format!("{}{path}", self.server))
            .bearer_auth(&self.token);
        let request = match body {
            Body::Nothing => request,
            Body::Json(value) => request.json(&value),
            Body::Component(bytes) => request.header(CONTENT_TYPE, "application/wasm").body(bytes),
        };
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    /// What an answer that is no success says.
    async fn refused(
        &self,
        method: &Method,
        path: &str,
        status: StatusCode,
        text: &str,
    ) -> Failure {
        match serde_json::from_str::<Problem>(text) {
            Ok(problem) if status == StatusCode::NOT_FOUND => {
                let failure = Failure::problem(&problem);
                let detail = problem.detail.as_deref().unwrap_or_default();
                match self.nearest(path, detail).await {
                    Some(hint) => failure.with_hint(hint),
                    None => failure,
                }
            }
            Ok(problem) => Failure::problem(&problem),
            Err(_) => Failure::failed(format!(
                "{} answered {status} to {method} {path}: {}",
                self.server,
                text.chars().take(200).collect::<String>()
            )),
        }
    }

    /// Sends a component.
    pub(crate) async fn install<T: DeserializeOwned>(
        &self,
        path: &str,
        component: Vec<u8>,
    ) -> Result<Decided<T>, Failure> {
        self.decided(path, Body::Component(component)).await
    }

    /// Sends a component, and takes what comes back.
    pub(crate) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        component: Vec<u8>,
    ) -> Result<T, Failure> {
        let answer = self.exchange(&Method::POST, path, Body::Component(component)).await?;
        if answer.status().is_success() {
            return self.json(answer).await;
        }
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        Err(self.refused(&Method::POST, path, status, &text).await)
    }

    /// Posts something that an operator must have said yes to.
    pub(crate) async fn decide<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Decided<T>, Failure> {
        let body =
            serde_json::to_value(body).map_err(|error| Failure::failed(error.to_string()))?;
        self.decided(path, Body::Json(body)).await
    }

    async fn decided<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Body,
    ) -> Result<Decided<T>, Failure> {
        let answer = self.exchange(&Method::POST, path, body).await?;
        if answer.status().is_success() {
            return self.json(answer).await.map(Decided::Done);
        }
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        match serde_json::from_str::<NeedsApproval>(&text) {
            Ok(needs) => Ok(Decided::Asked(Box::new(needs.review))),
            Err(_) => Err(self.refused(&Method::POST, path, status, &text).await),
        }
    }

    /// What may have been meant where the app, the buildpack or the extension of a path is not there.
    async fn nearest(&self, path: &str, detail: &str) -> Option<String> {
        let (noun, rest) = path.strip_prefix("/v1/")?.split_once('/')?;
        let name = rest.split(['/', '?']).next()?;
        let (known, list) = match noun {
            "apps" if detail == format!("there is no app '{name}'") => {
                let apps = self.first_page::<AppView>(noun).await?;
                (apps.into_iter().map(|app| app.name).collect::<Vec<_>>(), "apps list")
            }
            "extensions" if detail == format!("there is no extension '{name}'") => {
                let extensions = self.first_page::<ExtensionView>(noun).await?;
                (extensions.into_iter().map(|extension| extension.id).collect(), "ext list")
            }
            "buildpacks" if detail == format!("there is no buildpack '{name}'") => {
                let buildpacks = self.first_page::<BuildpackView>(noun).await?;
                (buildpacks.into_iter().map(|buildpack| buildpack.id).collect(), "buildpack list")
            }
            _ => return None,
        };
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        Some(match nearest(name, &known) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("`berth {list}` lists the {noun}"),
        })
    }

    async fn first_page<T: DeserializeOwned>(&self, noun: &str) -> Option<Vec<T>> {
        let url = format!("{}/v1/{noun}?limit=200", self.server);
        let answer = self.http.get(url).bearer_auth(&self.token).send().await.ok()?;
        answer.json::<Page<T>>().await.ok().map(|page| page.items)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::unreachable(format!("cannot reach {}: {}", self.server, root_cause(error)))
    }

    async fn json<T: DeserializeOwned>(&self, answer: Response) -> Result<T, Failure> {
        let bytes = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|error| {
            Failure::failed(format!(
                "{} sent an answer that this version does not understand: {error}",
                self.server
            ))
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.send(Method::GET, path, None).await?;
        self.json(answer).await
    }

    pub(crate) async fn send_json<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let body =
            serde_json::to_value(body).map_err(|error| Failure::failed(error.to_string()))?;
        let answer = self.send(method, path, Some(body)).await?;
        self.json(answer).await
    }

    /// Sends nothing, and takes what comes back.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, Failure> {
        let answer = self.send(method, path, None).await?;
        self.json(answer).await
    }

    /// Writes the bytes of an answer to `out`.
    pub(crate) async fn download(&self, path: &str, out: &mut dyn Write) -> Result<u64, Failure> {
        let mut answer = self.send(Method::GET, path, None).await?;
        let mut bytes = 0;
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            out.write_all(&chunk)?;
            bytes += chunk.len() as u64;
        }
        out.flush()?;
        Ok(bytes)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, None).await.map(drop)
    }

    /// Follows a stream of server-sent events; `each` gets the name and the data of every one and
    /// says whether to go on.
    pub(crate) async fn follow(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &str) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let answer = self.send(Method::GET, path, None).await?;
        let mut stream = answer.bytes_stream();
        let mut buffer = Vec::new();
        let (mut name, mut data) = (String::new(), String::new());
        while let Some(chunk) = stream.next().await {
            buffer.extend_from_slice(&chunk.map_err(|error| self.unreachable(&error))?);
            if buffer.len() > LINE_BYTES_MAX {
                return Err(Failure::failed("the server sent a line that is too long"));
            }
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end_matches(['\r', '\n']);
                if let Some(value) = line.strip_prefix("event:") {
                    value.trim_start().clone_into(&mut name);
                } else if let Some(value) = line.strip_prefix("data:") {
                    data.push_str(value.strip_prefix(' ').unwrap_or(value));
                } else if line.is_empty() && !data.is_empty() {
                    if !each(&name, &data)? {
                        return Ok(());
                    }
                    name.clear();
                    data.clear();
                }
            }
        }
        Ok(())
    }
}

/// The name that was probably meant: few letters differ, one begins with the other, or it is an id
/// without its publisher.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |candidate: &str| {
        let distance = strsim::damerau_levenshtein(name, candidate);
        let close = distance <= 2.max(name.len() / 4) && distance < name.len();
        let part = name.len() > 2
            && (candidate.starts_with(name)
                || name.starts_with(candidate)
                || candidate.split_once('.').is_some_and(|(_, own)| own == name));
        (close || part).then_some(distance)
    };
    let found = known.iter().filter_map(|candidate| Some((near(candidate)?, *candidate)));
    found.min().map(|(_, candidate)| candidate)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A value as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slip_is_recognised_and_another_name_is_not() {
        let known = ["hello", "shop", "shop-api", "berth.webhook"];
        for (name, meant) in [
            ("helo", Some("hello")),
            ("hlelo", Some("hello")),
            ("shop-ap", Some("shop-api")),
            ("shop-api-staging", Some("shop-api")),
            ("webhook", Some("berth.webhook")),
            ("billing", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, &known), meant, "{name}");
        }
    }

    #[test]
    fn a_segment_never_leaves_its_place() {
        assert_eq!(segment("../a b?c"), "..%2Fa%20b%3Fc");
    }
}
