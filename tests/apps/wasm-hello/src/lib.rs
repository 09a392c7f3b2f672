//! A small app for Berth as a WebAssembly component: `GET /` greets with the `GREETING` that was
//! set with `berth config set`, `POST /` sends back what it gets, `GET /count` streams ten lines.

use std::convert::Infallible;

use futures_lite::stream;
use wstd::http::body::Bytes;
use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    println!("{} {}", request.method(), request.uri().path());
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Ok(text(StatusCode::OK, greeting())),
        // The body of the request becomes the body of the response, piece by piece.
        (&Method::POST, "/") => Ok(Response::new(request.into_body())),
        (&Method::GET, "/count") => Ok(Response::new(count())),
        _ => Ok(text(StatusCode::NOT_FOUND, "there is nothing here\n".to_owned())),
    }
}

fn greeting() -> String {
    let greeting =
        std::env::var("GREETING").unwrap_or_else(|_| "Hello from WebAssembly".to_owned());
    format!("{greeting}\n")
}

fn count() -> Body {
    let lines = (1..=10).map(|number| Ok::<_, Infallible>(Bytes::from(format!("{number}\n"))));
    Body::from_try_stream(stream::iter(lines))
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}
