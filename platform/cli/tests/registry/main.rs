//! `berth ext push` and `pull` against Debian's `docker-registry`, and with `skopeo` at the other end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod logins;
mod others;
mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use server::Registry;

/// A component of nothing but a manifest.
fn component(version: &str) -> Vec<u8> {
    let manifest = format!(
        "[extension]\nid = \"acme.notify\"\nversion = \"{version}\"\nkind = \"hook\"\n\
         api = \"berth:hook@0.1.0\"\ndescription = \"Tells people.\"\n"
    );
    let name = b"berth:extension";
    let length = 1 + name.len() + manifest.len();
    let low = u8::try_from(length & 0x7f).unwrap() | 0x80;
    let head = [0, low, u8::try_from(length >> 7).unwrap(), u8::try_from(name.len()).unwrap()];
    [b"\0asm\x0d\0\x01\0", &head[..], name, manifest.as_bytes()].concat()
}

/// Somebody with a home of their own, which is empty.
struct Person {
    home: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// The end of a command.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.good()).unwrap()
    }

    /// What it said, when it refused and printed no data.
    #[track_caller]
    fn refused(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{}", self.err);
        self.err
    }
}

impl Person {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    fn set(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().display().to_string()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn berth(&self, arguments: &[&str]) -> Ran {
        self.run(env!("CARGO_BIN_EXE_berth"), arguments)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        let path = std::env::var("PATH").unwrap();
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", format!("{}:{path}", self.home.path().display()))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[test]
fn what_is_pushed_is_pulled_with_the_same_bytes_and_digest() {
    let (registry, person) = (Registry::start(), Person::new());
    let bytes = component("0.1.0");
    person.write("first.wasm", &bytes);
    let tag = registry.at("acme/notify:1");
    let pushed = person.berth(&["ext", "push", "first.wasm", &tag, "--json"]).json();
    let place = pushed["place"].as_str().unwrap().to_owned();
    assert!(place.starts_with(&registry.at("acme/notify@sha256:")), "{place}");
    assert_eq!(pushed["id"], "acme.notify");
    assert_eq!(pushed["bytes"], bytes.len());

    // The same component again, and elsewhere, is the same.
    let said = person.berth(&["ext", "push", "first.wasm", &tag]).good();
    assert_eq!(said, format!("acme.notify 0.1.0 is {place}\n"));
    let other = registry.at("elsewhere/notify");
    let elsewhere = person.berth(&["ext", "push", "first.wasm", &other, "--json"]).json();
    let digest = |place: &str| place.split_once('@').unwrap().1.to_owned();
    assert_eq!(digest(elsewhere["place"].as_str().unwrap()), digest(&place));

    let pulled = person.berth(&["ext", "pull", &tag, "-o", "pulled.wasm", "--json"]).json();
    assert_eq!((&pulled["place"], &pulled["component"]), (&pushed["place"], &pushed["component"]));
    assert_eq!(pulled["file"], "pulled.wasm");
    assert!(std::fs::read(person.path("pulled.wasm")).unwrap() == bytes);

    // A tag goes on, a digest stays.
    person.write("second.wasm", component("0.2.0"));
    person.berth(&["ext", "push", "second.wasm", &tag]).good();
    let said = person.berth(&["ext", "pull", &place]).good();
    assert_eq!(said, format!("acme.notify-0.1.0.wasm holds acme.notify 0.1.0, which is {place}\n"));
    assert!(std::fs::read(person.path("acme.notify-0.1.0.wasm")).unwrap() == bytes);
    person.berth(&["ext", "pull", &tag]).good();
    assert!(std::fs::read(person.path("acme.notify-0.2.0.wasm")).unwrap() == component("0.2.0"));
}

#[test]
fn a_large_component_goes_there_and_back() {
    let (registry, person) = (Registry::start(), Person::new());
    // A custom section of 20 MiB.
    let mut bytes = component("0.1.0");
    let content = [&[1, b'x'][..], &vec![7; (20 << 20) - 2]].concat();
    bytes.extend([0, 0x80, 0x80, 0x80, 0x0a]);
    bytes.extend(content);
    let file = person.write("large.wasm", &bytes);
    let tag = registry.at("acme/large:1");
    person.berth(&["ext", "push", file.to_str().unwrap(), &tag]).good();
    person.berth(&["ext", "pull", &tag, "-o", "back.wasm"]).good();
    assert!(std::fs::read(person.path("back.wasm")).unwrap() == bytes);

    let file = person.write("huge.wasm", vec![0; (64 << 20) + 1]);
    let said = person.berth(&["ext", "push", file.to_str().unwrap(), &tag]).refused(1);
    assert!(said.contains("huge.wasm is larger than 64 MiB"), "{said}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let (registry, person) = (Registry::start(), Person::new());
    person.write("good.wasm", component("0.1.0"));
    person.berth(&["ext", "push", "good.wasm", &registry.at("acme/notify:1")]).good();
    for name in ["acme/notify:2", "acme/none:1"] {
        let said = person.berth(&["ext", "pull", &registry.at(name)]).refused(1);
        assert!(said.contains(&registry.at(name)) && said.contains("it is not there"), "{said}");
        assert!(said.contains("hint: look at the spelling"), "{said}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reference = format!("{nobody}/acme/notify:1");
    for arguments in [&["ext", "pull", &reference][..], &["ext", "push", "good.wasm", &reference]] {
        let said = person.berth(arguments).refused(1);
        assert!(said.contains(&format!("cannot reach {nobody}: Connection refused")), "{said}");
        assert!(said.contains("are host and port right"), "{said}");
    }
    let by_digest = registry.at(&format!("acme/notify@sha256:{}", "0".repeat(64)));
    let said = person.berth(&["ext", "push", "good.wasm", &by_digest]).refused(2);
    assert!(said.contains("names a digest, which follows from what is pushed"), "{said}");
    let said = person.berth(&["ext", "pull", "acme/notify"]).refused(2);
    assert!(said.contains("it names no host") && said.contains("HOST[:PORT]/NAME:TAG"), "{said}");

    person.write("text.wasm", "hello");
    person.write("bare.wasm", b"\0asm\x0d\0\x01\0");
    let into = registry.at("acme/bad:1");
    for (file, why) in [
        ("text.wasm", "text.wasm is no extension: it is not WebAssembly"),
        ("bare.wasm", "bare.wasm is no extension: it has no manifest"),
        ("none.wasm", "cannot read none.wasm"),
    ] {
        let said = person.berth(&["ext", "push", file, &into]).refused(1);
        assert!(said.contains(why), "{said}");
    }
    let said = person.berth(&["ext", "pull", &into]).refused(1);
    assert!(said.contains("it is not there"), "nothing was pushed: {said}");
}
