//! Steady requests to one app while something happens to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests in flight: half on connections that are kept, half on new ones, GET and POST, nothing
/// is tried twice.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What a load saw.
#[derive(Debug)]
pub struct Seen {
    /// Requests that were sent.
    pub sent: u64,
    /// What went wrong, in words; one entry per failed request.
    pub failures: Vec<String>,
}

/// What is requested.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Path of GET requests.
    pub get: &'static str,
    /// Path of POST requests.
    pub post: &'static str,
    /// Body of POST requests, as a form.
    pub body: &'static str,
}

const THREADS: u64 = 8;

impl Load {
    /// Starts some `per_second` requests a second to `host`; every answer must be 200 to a GET, 200
    /// or 303 to a POST.
    pub fn start(router: SocketAddr, host: &str, form: Form, per_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let threads = (0..THREADS)
            .map(|number| {
                let (stop, sent, failures) = (stop.clone(), sent.clone(), failures.clone());
                let host = host.to_owned();
                std::thread::spawn(move || {
                    let mut kept: Option<TcpStream> = None;
                    let pause = Duration::from_secs_f64(THREADS as f64 / per_second as f64);
                    let mut next = Instant::now();
                    while !stop.load(Ordering::Relaxed) {
                        let count = sent.fetch_add(1, Ordering::Relaxed);
                        let post = count.is_multiple_of(4);
                        let keep = number.is_multiple_of(2);
                        if let Err(error) = request(router, &host, form, post, keep, &mut kept) {
                            kept = None;
                            if let Ok(mut failures) = failures.lock() {
                                failures.push(format!("{error:#}"));
                            }
                        }
                        next += pause;
                        std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    }
                })
            })
            .collect();
        Self { stop, sent, failures, threads }
    }

    /// Requests sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the load and gives what it saw.
    ///
    /// # Panics
    /// When one of its threads did.
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a load thread");
        }
        let failures = std::mem::take(&mut *self.failures.lock().expect("the failures"));
        Seen { sent: self.sent.load(Ordering::Relaxed), failures }
    }
}

fn request(
    router: SocketAddr,
    host: &str,
    form: Form,
    post: bool,
    keep: bool,
    kept: &mut Option<TcpStream>,
) -> anyhow::Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&router, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    let connection = if keep { "keep-alive" } else { "close" };
    let (method, path, body) =
        if post { ("POST", form.post, form.body) } else { ("GET", form.get, "") };
    let length = if post {
        format!(
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
            body.len()
        )
    } else {
        String::new()
    };
    stream.write_all(
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n{length}\r\n{body}").as_bytes(),
    )?;
    let (head, closes) = read_answer(&mut stream)?;
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    anyhow::ensure!(status == "200" || (post && status == "303"), "{method} {path}: {head}");
    if keep && !closes {
        *kept = Some(stream);
    }
    Ok(())
}

/// Reads one answer to its end; gives its head and whether the connection ends with it.
fn read_answer(stream: &mut TcpStream) -> anyhow::Result<(String, bool)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let head_end = loop {
        let count = stream.read(&mut buffer)?;
        anyhow::ensure!(count > 0, "the connection ended after {} bytes of an answer", bytes.len());
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let value = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name).map(|v| v.trim().to_owned()))
    };
    let closes = value("connection:").is_some_and(|v| v.contains("close"));
    let chunked = value("transfer-encoding:").is_some_and(|v| v.contains("chunked"));
    let length: Option<usize> = value("content-length:").and_then(|v| v.parse().ok());
    loop {
        let body = &bytes[head_end..];
        let done = match (chunked, length) {
            (true, _) => body.ends_with(b"0\r\n\r\n"),
            (false, Some(length)) => body.len() >= length,
            (false, None) => false,
        };
        if done {
            return Ok((head, closes));
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            anyhow::ensure!(!chunked && length.is_none(), "an answer was cut: {head}");
            return Ok((head, true));
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}
