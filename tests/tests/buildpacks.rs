//! A buildpack from elsewhere: written and built with the tools of its author, added to a platform
//! that runs, and removed again. Follows `buildpacks/README.md`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use acceptance::extensions::{plugin, with_section};
use acceptance::platform::programs;
use acceptance::{Platform, Repository};
use serde_json::{Value, json};

/// An author's folder.
struct Author {
    folder: tempfile::TempDir,
}

impl Author {
    /// `berth buildpack new`.
    fn new() -> Self {
        let author = Self { folder: tempfile::tempdir().unwrap() };
        author.must_in(author.folder.path(), &["new", "acme-make", "--lang", "rust"]);
        author
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("acme-make")
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}:\n{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    #[track_caller]
    fn must_in(&self, folder: &Path, arguments: &[&str]) {
        let output = Command::new(programs().join("berth"))
            .arg("buildpack")
            .args(arguments)
            .current_dir(folder)
            // What is compiled of the kit stays from run to run. What comes out is each author's
            // own: two packages of one name would overwrite each other's.
            .env("CARGO_BUILD_BUILD_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("buildpacks"))
            .env("CARGO_TARGET_DIR", self.path().join("target"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}\n{}", text(&output));
    }

    /// Builds, tests and packs, and gives the file.
    #[track_caller]
    fn packed(&self, id: &str, version: &str) -> String {
        self.must_in(&self.path(), &["build"]);
        self.must_in(&self.path(), &["test"]);
        self.must_in(&self.path(), &["pack"]);
        self.path().join(format!("{id}-{version}.wasm")).display().to_string()
    }

    /// The app that the template is tested with.
    fn app(&self) -> Repository {
        let repository = Repository::new();
        for file in ["Makefile", "web.c"] {
            repository
                .write(file, std::fs::read(self.path().join("tests/first").join(file)).unwrap());
        }
        repository.commit("A program");
        repository
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Id and origin of every buildpack.
fn list(platform: &Platform) -> Vec<(String, String)> {
    let page: Value =
        serde_json::from_str(&platform.must(&["buildpack", "list", "--json"])).unwrap();
    let field = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| (field(item, "id"), field(item, "origin"))).collect()
}

#[track_caller]
fn refused(platform: &Platform, repository: &Repository) -> String {
    repository.commit("Again");
    let pushed = repository.push(platform, "hello", &["HEAD:main"]);
    assert!(!pushed.ok, "{}", pushed.text);
    pushed.text
}

fn answer(platform: &Platform) -> String {
    platform.get("hello", "/").unwrap().1
}

#[test]
fn a_buildpack_from_elsewhere_is_added_builds_and_is_removed_while_the_platform_runs() {
    let mut platform = Platform::start();
    let author = Author::new();
    let repository = author.app();
    let said = refused(&platform, &repository);
    assert!(said.contains("No buildpack fits this source:"), "{said}");
    let shipped = list(&platform);
    assert!(shipped.iter().all(|(_, origin)| origin == "shipped"), "{shipped:?}");

    let file = author.packed("acme-make", "0.1.0");
    platform.must(&["buildpack", "add", &file]);
    let said = repository.deploy(&platform, "hello");
    assert!(said.contains("-----> Building with acme-make"), "{said}");
    assert!(said.contains("cc -O2 -Wall -o web web.c"), "{said}");
    assert_eq!(answer(&platform), "Hello from C\n");
    assert!(list(&platform).contains(&("acme-make".to_owned(), "added".to_owned())));

    // After `kill -9` it is there still. What was built since there is a stack is not built again.
    platform.kill();
    platform.serve().unwrap();
    assert!(list(&platform).contains(&("acme-make".to_owned(), "added".to_owned())));
    repository.commit("Nothing new");
    repository.deploy(&platform, "hello");
    repository.commit("Nothing new again");
    let said = repository.deploy(&platform, "hello");
    assert!(said.contains("Nothing changed since an earlier build"), "{said}");

    // Another version counts for the next push: it is another builder of the same source.
    author.edit("buildpack.toml", "0.1.0\"\napi", "0.2.0\"\napi");
    author.edit("src/lib.rs", "Building with make", "Making it");
    author.edit("tests/first.toml", "Building with make", "Making it");
    let second = author.packed("acme-make", "0.2.0");
    let taken = platform.berth(&["buildpack", "add", &second]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(text(&taken).contains("acme-make 0.1.0 already"), "{}", text(&taken));
    assert!(text(&taken).contains("--replace"), "{}", text(&taken));
    platform.must(&["buildpack", "add", &second, "--replace"]);
    repository.commit("Still nothing new");
    let said = repository.deploy(&platform, "hello");
    assert!(said.contains("-----> Making it"), "{said}");

    // Without it, what it built goes on, and what fits nothing is refused again.
    platform.must(&["buildpack", "remove", "acme-make"]);
    assert_eq!(answer(&platform), "Hello from C\n");
    let said = refused(&platform, &repository);
    assert!(said.contains("No buildpack fits this source:"), "{said}");
    assert_eq!(answer(&platform), "Hello from C\n");
    assert_eq!(list(&platform), shipped);
    platform.must(&["ps", "restart", "--app", "hello"]);
    assert_eq!(answer(&platform), "Hello from C\n");
}

#[test]
fn an_order_says_what_is_tried_and_what_breaks_stops_nobody_else() {
    let platform = Platform::start();
    let author = Author::new();
    platform.must(&["buildpack", "add", &author.packed("acme-make", "0.1.0")]);
    let order = || platform.must(&["buildpack", "order"]);
    assert!(order().starts_with("acme-make\nwasm\n"), "{}", order());
    platform.must(&["buildpack", "order", "python", "node,static?"]);
    assert_eq!(order(), "python\nnode,static?\n");
    let repository = author.app();
    let said = refused(&platform, &repository);
    assert!(!said.contains("acme-make"), "it was asked: {said}");
    // An app that names it has it all the same.
    repository.write("berth.toml", "[build]\nbuildpacks = [\"acme-make\"]\n");
    repository.commit("It says with what");
    repository.deploy(&platform, "hello");
    assert_eq!(answer(&platform), "Hello from C\n");
    platform.must(&["buildpack", "order", "--usual"]);

    // One that breaks when it is asked is passed over, and said to be.
    author.edit("buildpack.toml", "id = \"acme-make\"", "id = \"acme-broken\"");
    author.edit("src/lib.rs", "if has(\"Makefile\") {", "if panics() {");
    author.edit(
        "src/lib.rs",
        "struct Buildpack;",
        "fn panics() -> bool {\n    panic!(\"no\")\n}\n\nstruct Buildpack;",
    );
    author.must_in(&author.path(), &["build"]);
    let broken = author.path().join("acme-broken.wasm").display().to_string();
    platform.must(&["buildpack", "add", &broken]);
    assert!(order().starts_with("acme-broken\nacme-make\nwasm\n"), "{}", order());
    std::fs::remove_file(repository.path().join("berth.toml")).unwrap();
    repository.commit("It says nothing");
    let said = repository.deploy(&platform, "hello");
    assert!(said.contains("Passed over: the buildpack 'acme-broken' broke"), "{said}");
    assert!(said.contains("-----> Building with acme-make"), "{said}");
}

#[test]
fn what_is_no_buildpack_is_refused_with_the_reason_and_leaves_nothing() {
    let platform = Platform::start();
    let before = list(&platform);
    let folder = tempfile::tempdir().unwrap();
    let manifest = |id: &str| {
        let text = format!(
            "[buildpack]\nid = \"{id}\"\nversion = \"1.0.0\"\napi = \"berth:buildpack@0.1.0\"\n"
        );
        let shipped = std::fs::read(programs().join("buildpacks/static.wasm")).unwrap();
        with_section(shipped, "berth:buildpack", text.as_bytes())
    };
    let bare = std::fs::read(programs().join("buildpacks/static.wasm")).unwrap();
    for (bytes, told) in [
        (b"text".to_vec(), "this is not a WebAssembly file"),
        (b"\0asm\x01\0\0\0".to_vec(), "a core WebAssembly module, not a component"),
        (plugin("webhook"), "does not export berth:buildpack/detector@0.1.0"),
        (bare, "the component has no manifest"),
        (manifest("Acme"), "'Acme' is not a valid buildpack id"),
        (manifest("node"), "a buildpack node ships with Berth"),
        (vec![0; (64 << 20) + 1], "is larger than 64 MiB"),
    ] {
        let file = folder.path().join("bad.wasm");
        std::fs::write(&file, bytes).unwrap();
        let output = platform.berth(&["buildpack", "add", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{told}: {}", text(&output));
        assert!(text(&output).contains(told), "{told}: {}", text(&output));
    }
    let output = platform.berth(&["buildpack", "remove", "node"]);
    assert!(text(&output).contains("ships with Berth and cannot be removed"), "{}", text(&output));
    let output = platform.berth(&["buildpack", "remove", "acme-mak"]);
    assert!(text(&output).contains("there is no buildpack 'acme-mak'"), "{}", text(&output));
    let output = platform.berth(&["buildpack", "order", "ruby"]);
    assert!(text(&output).contains("there is no buildpack 'ruby'"), "{}", text(&output));
    assert_eq!(list(&platform), before);
    let events: Value = serde_json::from_str(
        &reqwest::blocking::Client::new()
            .get(format!("http://{}/v1/events?limit=200", platform.api))
            .bearer_auth(&platform.token)
            .send()
            .unwrap()
            .text()
            .unwrap(),
    )
    .unwrap();
    let kinds: Vec<&Value> =
        events["items"].as_array().unwrap().iter().map(|e| &e["kind"]).collect();
    assert!(
        !kinds.iter().any(|kind| kind.as_str().unwrap().starts_with("buildpack.")),
        "{kinds:?}"
    );
    // Nobody but an administrator changes them.
    let made: Value = serde_json::from_str(
        &platform.must(&["tokens", "create", "--name", "dev", "--role", "operator", "--json"]),
    )
    .unwrap();
    let secret = made["secret"].as_str().unwrap();
    let output = platform.berth_as(secret, &["buildpack", "order", "node"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(json!(list(&platform)), json!(before));
}
