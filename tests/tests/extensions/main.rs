//! Extensions as an operator has them: installed with `berth ext` on a real platform, told of real
//! pushes, and heard by servers that no one here wrote for them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alerts;
mod chat;
mod command_line;
mod crash;
mod folder;
mod pages;
mod policies;
mod receiver;
mod registry;
mod webhook;

use std::io::Write;
use std::process::{Output, Stdio};

use acceptance::platform::programs;
use acceptance::{Platform, Repository, Scene, wait_for};
use serde_json::Value;

/// Hooks try again at once, and a deployment is over soon.
const CONFIG: &str = "\
[deploy]
monitor_ms = 300
drain_ms_max = 2000
[extensions.delivery]
wait_ms_min = 100
wait_ms_max = 300
";

/// A host of a private network.
const RECEIVER: &str = "receiver.example";

/// A scene in which `RECEIVER` is a private host and `chat.example` a public one.
fn scene() -> Scene {
    use acceptance::scene::{PRIVATE, PUBLIC};
    let scene = Scene::enter();
    let hosts = format!("127.0.0.1 localhost\n{PRIVATE} {RECEIVER}\n{PUBLIC} chat.example\n");
    scene.put_etc("hosts", &hosts);
    scene
}

/// The path of an extension that ships with Berth.
fn plugin(name: &str) -> String {
    programs().join("plugins").join(name).with_extension("wasm").display().to_string()
}

/// An app that is quickly built, and says nothing but hello.
fn hello() -> Repository {
    let repository = Repository::new();
    let component = programs().join("samples/wasm-hello/app.wasm");
    repository.write("app.wasm", std::fs::read(component).unwrap());
    repository.commit("An app");
    repository
}

/// Another commit of it.
fn again(repository: &Repository) {
    repository.write("note", format!("{:?}", std::time::Instant::now()));
    repository.commit("Another");
}

/// Runs `berth` with something on its standard input.
fn berth_with(platform: &Platform, arguments: &[&str], input: &str) -> Output {
    let mut child = platform
        .command(&platform.token, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn set_secret(platform: &Platform, id: &str, name: &str, value: &str) {
    let output = berth_with(platform, &["ext", "secrets", "set", id, name], value);
    assert!(output.status.success(), "{output:?}");
}

/// Code, standard output and standard error.
fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What `berth --json` prints.
#[track_caller]
fn data(platform: &Platform, arguments: &[&str]) -> Value {
    let text = platform.must(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

/// Waits until the log of an extension says something.
#[track_caller]
fn logs(platform: &Platform, id: &str, what: &str) -> String {
    wait_for(&format!("{what:?} in the log of {id}"), 20, || {
        Some(platform.must(&["ext", "logs", id])).filter(|text| text.contains(what))
    })
}

/// A file for `--grant-file`.
fn grant(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn name_of(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}
