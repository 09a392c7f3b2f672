//! Policies before real pushes: a no stops the push and nothing else.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use acceptance::extensions::with_section;
use acceptance::{Platform, Repository};

use super::{CONFIG, again, data, hello, plugin, said};

/// Every day is one without releases.
const DAYS: &str =
    "days=[\"monday\",\"tuesday\",\"wednesday\",\"thursday\",\"friday\",\"saturday\",\"sunday\"]";

#[test]
fn a_push_that_a_policy_denies_says_why_and_leaves_what_runs_alone() {
    let platform = Platform::start_with(CONFIG);
    let repository = hello();
    repository.deploy(&platform, "hello");
    again(&repository);
    repository.deploy(&platform, "hello");
    let installed = platform.must(&["ext", "install", &plugin("no-deploy-days"), "--set", DAYS]);
    assert_eq!(installed, "berth.no-deploy-days 0.1.0 is installed\n");

    again(&repository);
    let pushed = repository.push(&platform, "hello", &["HEAD:main"]);
    assert!(!pushed.ok, "{}", pushed.text);
    assert!(pushed.text.contains("(not allowed)"), "{}", pushed.text);
    let denied = "berth.no-deploy-days does not allow it: nothing is released on a ";
    assert!(pushed.text.contains(denied), "{}", pushed.text);
    assert!(pushed.text.contains("day; try again tomorrow"), "{}", pushed.text);
    assert_eq!(platform.get("hello", "/").unwrap().0, 200);
    let releases = || data(&platform, &["releases", "list", "--app", "hello"])["items"].clone();
    assert_eq!(releases().as_array().unwrap().len(), 2);

    let planned = platform.must(&["plan", "config-set", "--app", "hello", "A=b"]);
    assert!(planned.contains("It would be refused: berth.no-deploy-days"), "{planned}");
    // A configuration that takes effect is a release; one that waits for the next is none.
    let (code, _, err) = said(platform.berth(&["config", "set", "--app", "hello", "A=b"]));
    assert!(code == Some(1) && err.contains(denied), "{err}");
    platform.must(&["config", "set", "--app", "hello", "--no-restart", "A=b"]);

    // Going back is how operators recover, and never asked about.
    platform.must(&["releases", "rollback", "--app", "hello", "v1"]);
    let friday = "days=[]";
    let (code, _, err) =
        said(platform.berth(&["ext", "config", "berth.no-deploy-days", "--set", friday]));
    assert!(code == Some(1) && err.contains("/days"), "{err}");

    platform.must(&["ext", "disable", "berth.no-deploy-days"]);
    repository.deploy(&platform, "hello");
    assert_eq!(releases().as_array().unwrap().len(), 4);
}

#[test]
fn rules_for_instances_hold_for_pushes_and_for_scaling() {
    let platform = Platform::start_with(CONFIG);
    let repository = Repository::of_sample("static-site");
    repository.deploy(&platform, "site");
    let id = "berth.instance-rules";
    platform.must(&["ext", "install", &plugin("instance-rules"), "--set", "instances-max=2"]);
    platform.must(&["ps", "scale", "--app", "site", "web=2"]);
    let (code, _, err) = said(platform.berth(&["ps", "scale", "--app", "site", "web=3"]));
    assert_eq!(code, Some(1));
    let denied = "berth.instance-rules does not allow it: ";
    assert!(err.contains(&format!("{denied}web would have 3 instances; 2 are allowed")), "{err}");
    let ps = data(&platform, &["ps", "--app", "site"]);
    assert_eq!(ps["items"].as_array().unwrap().len(), 2, "{ps}");

    platform.must(&["ext", "config", id, "--set", "memory-mib-max=16"]);
    again(&repository);
    let pushed = repository.push(&platform, "site", &["HEAD:main"]);
    assert!(!pushed.ok);
    let reason = format!("{denied}its instances may use more than 16 MiB of memory");
    assert!(pushed.text.contains(&reason), "{}", pushed.text);
    assert_eq!(platform.get("site", "/").unwrap().0, 200);
    let config = platform.must(&["ext", "config", id]);
    assert!(
        config.contains("instances-max = 2") && config.contains("memory-mib-max = 16"),
        "{config}"
    );

    platform.must(&["ext", "config", id, "--unset", "memory-mib-max"]);
    repository.deploy(&platform, "site");
}

#[test]
fn a_policy_that_never_ends_denies_and_keeps_nobody_from_switching_everything_off() {
    // It stays a policy that is called, however often it is ended.
    let platform =
        Platform::start_with(&format!("{CONFIG}[extensions.breaker]\nfaults_max = 10000\n"));
    let repository = hello();
    repository.deploy(&platform, "hello");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loops.wasm");
    std::fs::write(&file, endless("acme.loops", "1.0.0", "")).unwrap();
    platform.must(&["ext", "install", file.to_str().unwrap()]);
    platform.must(&["ext", "install", &plugin("no-deploy-days"), "--set", DAYS]);

    again(&repository);
    let pushed = repository.push(&platform, "hello", &["HEAD:main"]);
    assert!(!pushed.ok);
    assert!(pushed.text.contains("acme.loops does not allow it"), "{}", pushed.text);
    assert!(pushed.text.contains("berth ext disable acme.loops"), "{}", pushed.text);

    let stop = AtomicBool::new(false);
    let ask = || {
        while !stop.load(Ordering::Relaxed) {
            let _ = platform.berth(&["config", "set", "--app", "hello", "--no-restart", "A=b"]);
        }
    };
    std::thread::scope(|scope| {
        let _ended = Ended(&stop);
        for _ in 0..4 {
            scope.spawn(ask);
        }
        let calls = |platform: &Platform| {
            data(platform, &["ext", "show", "acme.loops"])["health"]["calls"]["cpu"].as_u64()
        };
        acceptance::wait_for("it to be called again and again", 30, || {
            calls(&platform).filter(|count| *count > 8)
        });
        let begun = Instant::now();
        let disabled = platform.must(&["ext", "disable", "--all"]);
        let took = begun.elapsed();
        assert!(disabled.contains("acme.loops is called no more"), "{disabled}");
        assert!(disabled.contains("berth.no-deploy-days is called no more"), "{disabled}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    });
    repository.deploy(&platform, "hello");
}

/// Says so when the test ends, also when it fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A policy whose verdict never comes, with a manifest of its own.
pub(crate) fn endless(id: &str, version: &str, capabilities: &str) -> Vec<u8> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../platform/wit");
    let mut resolve = wit_parser::Resolve::default();
    let mut package = None;
    for name in ["types", "log", "config", "kv", "metrics", "policy"] {
        package = Some(resolve.push_dir(wit.join(name)).unwrap().0);
    }
    let world = resolve.select_world(&[package.unwrap()], Some("policy")).unwrap();
    let mut module = wat::parse_str(
        r#"(module
             (memory (export "memory") 16)
             (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
             (func (export "berth:policy/judge@0.1.0#judge")
               (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32) (result i32)
               (loop br 0) unreachable))"#,
    )
    .unwrap();
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
    let mut component = wit_component::ComponentEncoder::default().module(&module).unwrap();
    let manifest = format!(
        "[extension]\nid = '{id}'\nversion = '{version}'\nkind = 'policy'\n\
         api = 'berth:policy@0.1.0'\ndescription = 'Thinks for ever.'\n\
         [capabilities]\n{capabilities}\n"
    );
    with_section(component.encode().unwrap(), "berth:extension", manifest.as_bytes())
}
