//! A buildpack that does what its context says, most of it bad.

use std::hint::black_box;

use berth::buildpack::{inventory, layers, log, source, tools, workspace};
use exports::berth::buildpack::builder::{self, Output, Process, Require};
use exports::berth::buildpack::detector::{self, Context, Failure, Outcome, Plan};

wit_bindgen::generate!({ path: "../../../../wit/buildpack", world: "buildpack" });

struct Guest;

export!(Guest);

/// What the test asks for.
fn asked(context: &Context) -> String {
    let what = context.extra.iter().find(|(name, _)| name == "do");
    what.map(|(_, value)| value.clone()).unwrap_or_default()
}

impl detector::Guest for Guest {
    fn detect(context: Context) -> Result<Outcome, Failure> {
        let what = asked(&context);
        match what.as_str() {
            "pass" => Ok(Outcome::Pass(vec![Plan {
                provides: vec!["node".to_owned()],
                requires: vec![Require { name: "node".to_owned(), metadata: "{}".to_owned() }],
            }])),
            "fail" => Ok(Outcome::Fail("there is no package.json".to_owned())),
            "source" => Ok(Outcome::Fail(source_text())),
            "inventory" => {
                let entries = inventory::entries("node", "node");
                Ok(Outcome::Fail(entries.into_iter().map(|entry| entry.version).collect()))
            }
            "layers" => layers::open("x", &[]).map(|_| Outcome::Pass(Vec::new())),
            "tools" => tools::run(&step()).map(|_| Outcome::Pass(Vec::new())),
            "fetch" => tools::fetch("node", "node", "1", "").map(Outcome::Fail),
            "workspace" => workspace::write("a", b"", false).map(|()| Outcome::Pass(Vec::new())),
            "world" => Ok(Outcome::Fail(world())),
            "write" => {
                println!("to stdout");
                eprintln!("to stderr\x1b[2J");
                log::header("a\rheading");
                log::line("warning", "a line");
                Ok(Outcome::Pass(Vec::new()))
            }
            other => misbehave(other),
        }
    }
}

impl builder::Guest for Guest {
    fn build(context: Context, requires: Vec<Require>) -> Result<Output, Failure> {
        match asked(&context).as_str() {
            "full" => full(requires),
            "tool" => tools::run(&step()).map(|outcome| output(&outcome.exit_code.to_string())),
            other => misbehave(other).map(|_| output("")),
        }
    }
}

fn source_text() -> String {
    let read = source::read("a.txt", 100).map(|bytes| String::from_utf8(bytes).unwrap());
    let missing = source::read("none", 100).unwrap_err();
    format!(
        "{} {} {} {:?} {}",
        source::kind("a.txt"),
        read.unwrap(),
        missing.code,
        source::glob(&["*.txt".to_owned()]),
        source::digest(&["*.txt".to_owned()]),
    )
}

fn full(requires: Vec<Require>) -> Result<Output, Failure> {
    let layer = layers::open("deps", &["launch".to_owned(), "cache".to_owned()])?;
    let restored = layer.restored().unwrap_or_default();
    layer.clear();
    layer.update();
    layer.set_metadata("{\"lock\":1}");
    layer.write("bin/x", b"#!/bin/sh\n", true)?;
    layer.symlink("bin/y", "x")?;
    layer.env("launch", "prepend", "PATH", &layer.path());
    workspace::write("made", b"made", false)?;
    workspace::symlink("link", "made")?;
    let removed = workspace::remove(&["*.pyc".to_owned()])?;
    let ran = tools::run(&step())?;
    let fetched = tools::fetch("node", "node", "20.1.0", "sha512-x")?;
    let said = String::from_utf8(ran.stdout).unwrap();
    Ok(output(&format!("{} {restored} {removed} {said} {fetched}", requires.len())))
}

fn step() -> tools::Step {
    tools::Step {
        argv: vec!["true".to_owned()],
        working_dir: None,
        env: Vec::new(),
        inputs: None,
        caches: Vec::new(),
        writes: Vec::new(),
        network: vec!["none".to_owned()],
        show: false,
        capture: true,
        extra: Vec::new(),
    }
}

fn output(command: &str) -> Output {
    Output {
        processes: vec![Process {
            name: "web".to_owned(),
            command: vec![command.to_owned()],
            default: true,
            working_dir: None,
            extra: Vec::new(),
        }],
        release: None,
        unmet: Vec::new(),
        component: None,
        workspace: true,
        labels: Vec::new(),
        extra: Vec::new(),
    }
}

/// What a guest finds beside the world: nothing, and the same each time.
fn world() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let started = std::time::Instant::now();
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1);
    format!(
        "time {} passed {} env {} args {} files {} random {random}",
        now.as_secs(),
        started.elapsed().as_nanos(),
        std::env::vars().count(),
        std::env::args().count(),
        std::fs::read_dir("/").is_ok(),
    )
}

fn misbehave(what: &str) -> Result<Outcome, Failure> {
    match what {
        "failure" => Err(Failure {
            code: "no-version".to_owned(),
            message: "python 2.4 is not in the inventory".to_owned(),
            retry: false,
            extra: Vec::new(),
        }),
        "panic" => panic!("asked for"),
        "loop" => loop {
            black_box(());
        },
        "memory" => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(black_box(vec![1; 1 << 20]));
            }
        }
        "calls" => loop {
            black_box(source::kind("a"));
        },
        "wasi-calls" => loop {
            black_box(std::time::SystemTime::now());
        },
        "log" => loop {
            log::line("info", &"x".repeat(1000));
        },
        "stdout" => loop {
            println!("{}", "x".repeat(1000));
        },
        "huge-argument" => {
            log::line("info", &"x".repeat(64 << 20));
            Ok(Outcome::Pass(Vec::new()))
        }
        "blocked" => {
            black_box(source::digest(&["blocks".to_owned()]));
            Ok(Outcome::Pass(Vec::new()))
        }
        "host-fails" => {
            black_box(source::digest(&["broken".to_owned()]));
            Ok(Outcome::Pass(Vec::new()))
        }
        other => Ok(Outcome::Fail(format!("unknown: {other}"))),
    }
}
