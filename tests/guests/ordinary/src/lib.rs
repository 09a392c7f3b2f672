//! A hook that does in its first attempt what the event's payload says, by the means of the
//! standard library and of WASI: each is a row of the table. Where it is stopped as it should be,
//! it returns nothing; where something worked that should not, it says what.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasip2::clocks::monotonic_clock;
use wasip2::random::random;

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                export berth:hook/handler@0.1.0;
            }
        ",
        path: ["../../../platform/wit/types", "../../../platform/wit/log", "../../../platform/wit/config",
            "../../../platform/wit/kv", "../../../platform/wit/secrets", "../../../platform/wit/http-out",
            "../../../platform/wit/events", "../../../platform/wit/clock", "../../../platform/wit/metrics",
            "../../../platform/wit/hook"],
        world: "berth:extension/extension",
        generate_all,
    });
}

use bindings::exports::berth::hook::handler::{Error, Event, Guest};

struct Ordinary;

impl Guest for Ordinary {
    fn on_event(event: Event) -> Result<(), Error> {
        if event.attempt > 1 {
            return Ok(());
        }
        let (what, argument) = event.payload.split_once(' ').unwrap_or((&event.payload, ""));
        let worked = done(what, argument);
        if worked.is_empty() {
            return Ok(());
        }
        let message = worked.join("; ");
        Err(Error { code: "worked".to_owned(), message, retry: false, extra: Vec::new() })
    }
}

fn done(what: &str, argument: &str) -> Vec<String> {
    let mut worked = Vec::new();
    let mut note = |what: &str, succeeded: bool| {
        if succeeded {
            worked.push(what.to_owned());
        }
    };
    match what {
        "uses-files" => {
            note("reading", std::fs::read("/etc/passwd").is_ok());
            note("listing", std::fs::read_dir("/").is_ok());
            note("writing", std::fs::write("/tmp/guest", "x").is_ok());
            note("going up", std::fs::read("../../etc/passwd").is_ok());
        }
        "reads-the-environment" => {
            note("environment", std::env::vars_os().next().is_some());
            note("arguments", std::env::args_os().next().is_some());
            note("folder", std::env::current_dir().is_ok_and(|at| at.as_os_str() != "/"));
            note("input", std::io::stdin().read(&mut [0; 8]).is_ok_and(|bytes| bytes > 0));
        }
        "opens-sockets" => {
            note("connecting", TcpStream::connect(argument).is_ok());
            note("listening", TcpListener::bind("127.0.0.1:0").is_ok());
            let sent = UdpSocket::bind("127.0.0.1:0").and_then(|it| it.send_to(b"x", argument));
            note("sending", sent.is_ok());
        }
        "resolves-names" => note("resolving", ("localhost", 80).to_socket_addrs().is_ok()),
        "exits" => std::process::exit(0),
        "panics" => panic!("asked for"),
        "allocates" => {
            let mut kept = Vec::new();
            loop {
                kept.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "floods-its-output" => loop {
            println!("{}", "a".repeat(1000));
        },
        "floods-without-an-end-of-line" => loop {
            let _ = std::io::stderr().write_all(&[b'a'; 1000]);
        },
        "draws-on-the-terminal" => println!("ok\x1b[2J\x1b[Hgone\r2026-11-20 error berthd: lost"),
        "sleeps" => std::thread::sleep(Duration::MAX),
        "naps" => loop {
            std::thread::sleep(Duration::from_millis(1));
        },
        "hoards-timers" => loop {
            std::mem::forget(monotonic_clock::subscribe_duration(u64::MAX));
        },
        "asks-for-much-chance" => {
            note("a gibibyte of random bytes", random::get_random_bytes(1 << 30).len() > 1)
        }
        "rolls-dice" => {
            let hash = RandomState::new().build_hasher().finish();
            return vec![format!("{hash} {}", random::get_random_u64())];
        }
        "watches-the-clock" => {
            let (started, before) = (Instant::now(), SystemTime::now());
            for turn in 0..10_000_000_u32 {
                black_box(turn);
            }
            let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            note("the time of day", !day.is_zero());
            note("time that passes", !started.elapsed().is_zero() || before != SystemTime::now());
        }
        other => note(other, true),
    }
    worked
}

bindings::export!(Ordinary with_types_in bindings);
