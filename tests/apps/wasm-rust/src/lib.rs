//! A small Wasm app that the push builds: `GET /` greets with `GREETING`, `POST /` sends back what
//! it gets.

use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => {
            let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
            Ok(Response::new(Body::from(format!("{greeting} from Rust\n"))))
        }
        (&Method::POST, "/") => Ok(Response::new(request.into_body())),
        _ => {
            let mut missing = Response::new(Body::from("there is nothing here\n"));
            *missing.status_mut() = StatusCode::NOT_FOUND;
            Ok(missing)
        }
    }
}
