//! A buildpack that uses all that there was in 0.1.0.

wit_bindgen::generate!({ world: "buildpack", path: "wit" });

use berth::buildpack::types::{Context, Failure, Plan, Require};
use berth::buildpack::{inventory, layers, log, source, tools, workspace};
use exports::berth::buildpack::builder::{Guest as Builder, Output, Process};
use exports::berth::buildpack::detector::{Guest as Detector, Outcome};

struct Museum;

impl Detector for Museum {
    fn detect(ctx: Context) -> Result<Outcome, Failure> {
        if source::kind("hall") != "directory" {
            return Ok(Outcome::Fail("there is no hall".to_owned()));
        }
        check("context", known(&ctx))?;
        Ok(Outcome::Pass(vec![Plan {
            provides: vec!["hall".to_owned()],
            requires: vec![Require { name: "hall".to_owned(), metadata: "{\"n\":1}".to_owned() }],
        }]))
    }
}

impl Builder for Museum {
    fn build(ctx: Context, requires: Vec<Require>) -> Result<Output, Failure> {
        check("context", known(&ctx))?;
        check("requires", requires.iter().any(|one| one.name == "hall"))?;
        seen()?;
        fetched()?;
        changed()?;
        kept()?;
        ran()?;
        Ok(Output {
            processes: vec![Process {
                name: "web".to_owned(),
                command: vec!["/workspace/new/web".to_owned()],
                default: true,
                working_dir: Some("/workspace/new".to_owned()),
                extra: Vec::new(),
            }],
            release: Some(vec!["/workspace/new/release".to_owned()]),
            unmet: Vec::new(),
            component: None,
            workspace: true,
            labels: vec![("age".to_owned(), "old".to_owned())],
            extra: Vec::new(),
        })
    }
}

fn known(ctx: &Context) -> bool {
    ctx.buildpack_id == "museum"
        && ctx.exec_env == "production"
        && ctx.target.os == "linux"
        && !ctx.target.arch.is_empty()
        && !ctx.target.distro.is_empty()
        && !ctx.target.distro_version.is_empty()
        && ctx.config_names == ["WORD"]
}

/// The source.
fn seen() -> Result<(), Failure> {
    check("kind", source::kind("none") == "missing" && source::kind("hall/a") == "file")?;
    check("read", source::read("hall/a", 100)? == b"one\n")?;
    let large = source::read("hall/a", 1).expect_err("it is larger");
    check("too-large", large.code == "too-large")?;
    check("glob", source::glob(&["hall/**".to_owned()]) == ["hall/a", "hall/b"])?;
    check("digest", source::digest(&["hall/*".to_owned()]).len() == 64)
}

/// The inventory.
fn fetched() -> Result<(), Failure> {
    let entries = inventory::entries("python", "uv");
    let newest = entries.first().ok_or_else(|| failure("the inventory is empty"))?;
    let path = tools::fetch("python", "uv", &newest.version, &newest.integrity)?;
    check("fetch", path.starts_with('/'))
}

/// The workspace.
fn changed() -> Result<(), Failure> {
    workspace::write("new/web", b"#!/bin/sh\n", true)?;
    workspace::symlink("new/link", "web")?;
    check("remove", workspace::remove(&["hall/b".to_owned()])? == 1)
}

/// Layers: one that an earlier build left, and one that is new.
fn kept() -> Result<(), Failure> {
    let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>();
    let old = layers::open("old", &kinds(&["launch", "cache"]))?;
    check("restored", old.restored().as_deref() == Some("{\"key\":\"k1\"}"))?;
    old.update();
    old.set_metadata("{\"key\":\"k2\"}");
    old.write("bin/tool", b"tool", true)?;
    old.symlink("bin/again", "tool")?;
    old.env("launch", "prepend", "PATH_OF_HALL", "/layers/museum/old");
    let new = layers::open("new", &kinds(&["build"]))?;
    check("path", new.path() == "/layers/museum/new" && new.restored().is_none())?;
    new.clear();
    new.env("build", "default", "HALL", "new");
    Ok(())
}

/// Tools.
fn ran() -> Result<(), Failure> {
    log::header("Going round");
    log::line("info", "a step of everything");
    let outcome = tools::run(&tools::Step {
        argv: vec!["walk".to_owned(), "round".to_owned()],
        working_dir: Some("/layers/museum/new".to_owned()),
        env: vec![("A".to_owned(), "b".to_owned())],
        inputs: Some(vec!["hall/*".to_owned()]),
        caches: vec!["steps".to_owned()],
        writes: vec!["new".to_owned(), "old".to_owned()],
        network: vec!["node".to_owned()],
        show: true,
        capture: true,
        extra: Vec::new(),
    })?;
    let ended = (outcome.exit_code, outcome.oom_killed, outcome.timed_out);
    check("outcome", ended == (3, false, false) && outcome.stdout == b"round\n")
}

fn check(what: &str, holds: bool) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(failure(&format!("{what} is not as it was"))) }
}

fn failure(message: &str) -> Failure {
    Failure {
        code: "museum".to_owned(),
        message: message.to_owned(),
        retry: false,
        extra: Vec::new(),
    }
}

export!(Museum);
