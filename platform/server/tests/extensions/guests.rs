//! Builds components: guests of these tests, extensions that ship with Berth, and their manifests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of this crate's guests.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("tests/guests", "guests-of-berthd", &[]))
}

/// A guest crate's component with a manifest.
pub(crate) fn component(guest: &str, manifest: &str) -> Vec<u8> {
    let bytes = std::fs::read(built().join(format!("test_{guest}.wasm"))).unwrap();
    with_manifest(bytes, manifest)
}

/// A buildpack of an id and a version, which fits no source.
pub(crate) fn buildpack(id: &str, version: &str) -> Vec<u8> {
    let bytes = std::fs::read(built().join("test_buildpack.wasm")).unwrap();
    let manifest = format!(
        "[buildpack]\nid = \"{id}\"\nversion = \"{version}\"\n\
         api = \"berth:buildpack@0.1.0\"\ndescription = \"A test.\"\n"
    );
    with_section(bytes, "berth:buildpack", &manifest)
}

/// An extension that ships with Berth.
pub(crate) fn plugin(name: &str) -> Vec<u8> {
    let workspace = "../../plugins";
    let folder = build(workspace, "guests", &["-p", &format!("berth-plugin-{name}")]);
    let file = format!("berth_plugin_{}.wasm", name.replace('-', "_"));
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(workspace).join(name);
    let manifest = std::fs::read_to_string(own.join("extension.toml")).unwrap();
    with_manifest(std::fs::read(folder.join(file)).unwrap(), &manifest)
}

/// Builds into a folder of its own, so that nobody waits for another workspace's build.
fn build(workspace: &str, into: &str, only: &[&str]) -> PathBuf {
    let target = scratch().join(into);
    let status = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(workspace))
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(only)
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "{workspace} was not built; is the target wasm32-wasip2 there?");
    target.join("wasm32-wasip2/release")
}

/// A folder that outlives the test, below the target folder.
pub(crate) fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// A component with its manifest.
pub(crate) fn with_manifest(component: Vec<u8>, manifest: &str) -> Vec<u8> {
    with_section(component, "berth:extension", manifest)
}

/// A custom section at the end of a component (WebAssembly core specification, 5.5.3).
pub(crate) fn with_section(mut component: Vec<u8>, name: &str, content: &str) -> Vec<u8> {
    let mut body = vec![u8::try_from(name.len()).unwrap()];
    body.extend(name.as_bytes());
    body.extend(content.as_bytes());
    component.push(0);
    let mut length = body.len();
    while length >= 0x80 {
        component.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    component.push(u8::try_from(length).unwrap());
    component.extend(body);
    component
}

/// The manifest `acme.KIND` of a version, with lines below `[capabilities]` and a schema that
/// allows every object.
pub(crate) fn manifest(kind: &str, version: &str, capabilities: &str) -> String {
    format!(
        "[extension]\nid = \"acme.{kind}\"\nversion = \"{version}\"\nkind = \"{kind}\"\n\
         api = \"berth:{kind}@0.1.0\"\n[capabilities]\n{capabilities}\n\
         [config.schema]\ntype = \"object\"\n"
    )
}

/// Everything that the hook of these tests imports.
pub(crate) const EVERYTHING: &[(&str, &str)] = &[
    (
        "events",
        r#"events = { kinds = ["before.build", "app.*"], blocking = true, why = "to act" }"#,
    ),
    ("http", r#"http = [{ host = "host.invalid", methods = ["GET"], ports = [443] }]"#),
    ("kv", r#"kv = { quota = "1KiB", why = "to remember" }"#),
    ("secrets", r#"secrets = [{ name = "one" }, { name = "two" }]"#),
    ("secrets-read", r#"secrets-read = [{ name = "one" }]"#),
    ("emit", r#"emit = [{ name = "own" }]"#),
    ("clock", "clock = {}"),
    ("metrics", "metrics = {}"),
];

/// All of it but what is named.
pub(crate) fn everything_but(without: &str) -> String {
    let lines = EVERYTHING.iter().filter(|(name, _)| *name != without);
    lines.map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
}

/// The hook of these tests that asks for everything.
pub(crate) fn hook(version: &str) -> Vec<u8> {
    component("hook", &manifest("hook", version, &everything_but("")))
}

/// The policy of these tests.
pub(crate) fn policy(version: &str) -> Vec<u8> {
    component("policy", &manifest("policy", version, ""))
}

/// The extension of the console of these tests.
pub(crate) fn console(version: &str) -> Vec<u8> {
    let powers = ["http", "kv"].map(|wanted| EVERYTHING.iter().find(|(name, _)| *name == wanted));
    let lines: Vec<&str> = powers.into_iter().flatten().map(|(_, line)| *line).collect();
    component("console", &manifest("console", version, &lines.join("\n")))
}
