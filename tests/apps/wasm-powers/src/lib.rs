//! An app that does with its powers what its path says, and answers with what came of it.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};

wasip2::http::proxy::export!(App);

#[allow(clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package example:app;
            world app {
                import berth:kv/kv@0.1.0;
                import berth:secrets/secrets@0.1.0;
                import berth:http-out/http-out@0.1.0;
            }
        ",
        path: [
            "../../../platform/wit/types",
            "../../../platform/wit/kv",
            "../../../platform/wit/secrets",
            "../../../platform/wit/http-out",
        ],
        world: "example:app/app",
        generate_all,
    });
}

use bindings::berth::http_out::http_out;
use bindings::berth::kv::kv;
use bindings::berth::secrets::secrets;
use bindings::berth::types::types::Error;

struct App;

impl wasip2::exports::http::incoming_handler::Guest for App {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let (first, second) = query.split_once('&').unwrap_or((query, ""));
        let said = match path {
            "/fetch" => fetch(query),
            "/send" => send(query),
            "/get" => kv::get(first).map(|value| match value {
                Some(value) => String::from_utf8_lossy(&value).into_owned(),
                None => "(none)".to_owned(),
            }),
            "/put" => kv::put(first, second.as_bytes(), None).map(|()| "put".to_owned()),
            "/fill" => {
                let bytes = vec![b'x'; second.parse().unwrap_or(0)];
                kv::put(first, &bytes, None).map(|()| "put".to_owned())
            }
            "/add" => kv::put_if_absent(first, second.as_bytes(), None).map(|put| put.to_string()),
            "/remove" => kv::remove(first).map(|removed| removed.to_string()),
            "/keys" => kv::keys(first, 100).map(|keys| keys.join(",")),
            "/env" => Ok(std::env::var(query).is_ok().to_string()),
            "/secret" => secrets::open(first).map(|it| it.equals(second.as_bytes()).to_string()),
            _ => Ok("alive".to_owned()),
        };
        match said {
            Ok(said) => answer(out, 200, &said),
            Err(Error { code, message, .. }) => answer(out, 500, &format!("{code}: {message}")),
        }
    }
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    for piece in text.as_bytes().chunks(4096) {
        stream.blocking_write_and_flush(piece).unwrap();
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// The status and the body, or the code of `wasi:http` why not.
fn fetch(url: &str) -> Result<String, Error> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(&format!("/{path}"))).unwrap();
    let body = request.body().unwrap();
    let pending = match outgoing_handler::handle(request, None) {
        Ok(pending) => pending,
        Err(code) => return Ok(format!("{code:?}")),
    };
    OutgoingBody::finish(body, None).unwrap();
    pending.subscribe().block();
    let response = match pending.get().unwrap().unwrap() {
        Ok(response) => response,
        Err(code) => return Ok(format!("{code:?}")),
    };
    let body = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut text = Vec::new();
    while let Ok(piece) = stream.blocking_read(4096) {
        text.extend(piece);
    }
    Ok(format!("{} {}", response.status(), String::from_utf8_lossy(&text)))
}

fn send(url: &str) -> Result<String, Error> {
    let key = secrets::open("API_KEY")?;
    let request = http_out::Request::new("POST", url);
    request.set_secret_header("authorization", "Bearer ", &key);
    request.set_body(b"sent");
    let response = request.send()?;
    Ok(format!("{} {}", response.status, String::from_utf8_lossy(&response.body)))
}
