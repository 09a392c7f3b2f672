//! An app that does what its path says, most of it bad.

use std::hint::black_box;
use std::io::Write as _;

use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};
use wasip2::io::streams::StreamError;

wasip2::http::proxy::export!(App);

struct App;

impl wasip2::exports::http::incoming_handler::Guest for App {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.as_str() {
            "/hello" => hello(out),
            "/echo" => echo(request, out),
            "/headers" => headers(request, out),
            "/loop" => loop {
                black_box(());
            },
            "/wait" => monotonic_clock::subscribe_duration(u64::MAX).block(),
            "/mem" => memory(),
            "/trap" => panic!("asked for"),
            "/recursion" => {
                black_box(recursion(1));
            }
            "/exit" => std::process::exit(3),
            "/switch" => {
                let response = OutgoingResponse::new(Fields::new());
                response.set_status_code(101).unwrap();
                ResponseOutparam::set(out, Ok(response));
            }
            "/nothing" => drop(out),
            "/cut" => {
                let _open = begin(out, b"begun");
                panic!("in the middle");
            }
            "/stall" => {
                let _open = begin(out, b"begun");
                monotonic_clock::subscribe_duration(u64::MAX).block();
            }
            "/late" => {
                let (stream, body) = begin(out, b"answer");
                drop(stream);
                OutgoingBody::finish(body, None).unwrap();
                println!("after the answer");
            }
            "/noise" => {
                for number in 0..200_000 {
                    println!("line {number} of a great many lines of output");
                }
                text(out, "made noise");
            }
            "/clock" => {
                for _ in 0..u64::MAX {
                    black_box(monotonic_clock::now());
                }
            }
            "/handles" => {
                let mut held = Vec::new();
                loop {
                    held.push(monotonic_clock::subscribe_duration(u64::MAX));
                }
            }
            "/random" => {
                black_box(wasip2::random::random::get_random_bytes(1 << 40));
            }
            "/outbound" => outbound(out),
            "/world" => world(out),
            _ => text(out, "unknown path"),
        }
    }
}

fn begin(out: ResponseOutparam, first: &[u8]) -> (wasip2::io::streams::OutputStream, OutgoingBody) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    stream.blocking_write_and_flush(first).unwrap();
    (stream, body)
}

fn text(out: ResponseOutparam, text: &str) {
    let (stream, body) = begin(out, text.as_bytes());
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn hello(out: ResponseOutparam) {
    println!("hello from stdout");
    eprint!("hello from stderr");
    text(out, &std::env::var("GREETING").unwrap_or_default());
}

fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let mut output = body.write().unwrap();
    loop {
        match input.blocking_read(32 * 1024) {
            Ok(bytes) => output.write_all(&bytes).unwrap(),
            Err(StreamError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    output.flush().unwrap();
    drop(output);
    OutgoingBody::finish(body, None).unwrap();
}

fn headers(request: IncomingRequest, out: ResponseOutparam) {
    let mut names: Vec<_> = request.headers().entries().into_iter().map(|(name, _)| name).collect();
    names.sort();
    let fields = Fields::new();
    fields.append("berth-error", b"forged").unwrap();
    fields.append("x-own", b"yes").unwrap();
    let response = OutgoingResponse::new(fields);
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    stream.blocking_write_and_flush(names.join(" ").as_bytes()).unwrap();
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn memory() {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(black_box(vec![1; 1 << 20]));
    }
}

#[inline(never)]
fn recursion(depth: u64) -> u64 {
    if depth == 0 {
        return 0;
    }
    let room = black_box([depth; 64]);
    room[7] + recursion(depth + 1) + room[9]
}

fn outbound(out: ResponseOutparam) {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some("127.0.0.1:1")).unwrap();
    request.set_path_with_query(Some("/")).unwrap();
    let response = outgoing_handler::handle(request, None).unwrap();
    response.subscribe().block();
    let error = response.get().unwrap().unwrap().unwrap_err();
    text(out, &format!("{error:?}"));
}

/// What there is beside requests: nothing.
fn world(out: ResponseOutparam) {
    let files = std::fs::read_dir("/").is_err() && std::fs::write("/tmp/x", "x").is_err();
    let sockets = std::net::TcpStream::connect("127.0.0.1:1").map(|_| ()).unwrap_err();
    let names = std::net::ToSocketAddrs::to_socket_addrs("localhost:1").is_err();
    let arguments = std::env::args().count();
    text(
        out,
        &format!(
            "files refused: {files}, sockets: {sockets}, names refused: {names}, arguments: {arguments}"
        ),
    );
}
