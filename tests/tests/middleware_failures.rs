//! Middlewares that fail, platforms whose parts are killed, and changes of middlewares under load.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use acceptance::extensions::{self, ANN, answers, api, ask, basic_auth, install, plugin};
use acceptance::load::Form;
use acceptance::platform::programs;
use acceptance::{Load, Platform, Repository, traces, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::json;

const CONFIG: &str = "\
[deploy]
monitor_ms = 1000
drain_ms_max = 3000
[extensions.breaker]
faults_max = 2
rests_max = 1
";

/// The middleware that does what the path says, most of it bad.
fn hostile(id: &str, on_failure: &str) -> Vec<u8> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let built = Command::new(env!("CARGO"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../platform/extensions/tests/guests"))
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(["-p", "guest-middleware"])
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .status();
    assert!(built.unwrap().success());
    let component =
        std::fs::read(target.join("wasm32-wasip2/release/guest_middleware.wasm")).unwrap();
    let manifest = format!(
        "[extension]\nid = \"{id}\"\nversion = \"1.0.0\"\nkind = \"middleware\"\n\
         api = \"berth:middleware@0.1.0\"\ndescription = \"Fails.\"\n\
         filters = [\"request\", \"response\"]\non_failure = \"{on_failure}\"\n\
         [capabilities]\ncounters = {{}}\nclock = {{}}\nmetrics = {{}}\n\
         secrets = [{{ name = \"one\" }}]\nsecrets-read = [{{ name = \"one\" }}]\n"
    );
    extensions::with_section(component, "berth:extension", manifest.as_bytes())
}

/// Asks without credentials for as long as it is there, and keeps what came.
struct Burglar {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<u16, u64>>,
}

impl Burglar {
    fn start(platform: &Platform, app: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, client) = (Arc::clone(&stop), platform.client(&format!("{app}.localhost")));
        let url = platform.url(app, "/");
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                // Where no router listens nobody gets in either.
                let status = client.get(&url).send().map_or(0, |answer| answer.status().as_u16());
                *seen.entry(status).or_default() += 1;
            }
            seen
        });
        Self { stop, thread }
    }

    /// How often it got which status.
    fn finish(self) -> BTreeMap<u16, u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Kills the router, and waits until its agent has started another one.
fn kill_router(platform: &Platform) {
    let data = platform.data.display().to_string();
    let routers = || traces::processes(&["berthd", " route ", &data]);
    let [router] = routers()[..] else { panic!("not one router: {:?}", routers()) };
    kill(Pid::from_raw(router), Signal::SIGKILL).unwrap();
    wait_for("another router", 20, || {
        let client = platform.client("none.localhost");
        let answers = client.get(platform.url("none", "/")).send().is_ok();
        (answers && !routers().contains(&router)).then_some(())
    });
}

fn state(platform: &Platform, id: &str) -> String {
    let shown = api(platform, Method::GET, &format!("/{id}"), None);
    shown["state"].as_str().unwrap().to_owned()
}

#[test]
fn what_fails_closed_lets_nobody_past_and_what_fails_open_goes_on_whatever_is_killed() {
    let mut platform = Platform::start_with(CONFIG);
    let repository = Repository::new();
    let hello = std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap();
    repository.write("app.wasm", hello).commit("A component");
    for app in ["guarded", "closed", "open", "plain"] {
        repository.deploy(&platform, app);
    }
    basic_auth(&platform, "guarded");
    let closed = install(&platform, &hostile("test.closed", "closed"), "closed", &json!({}));
    let open = install(&platform, &hostile("test.open", "open"), "open", &json!({}));
    let at = |platform: &Platform, app: &str, path: &str| {
        let answer = ask(platform, app, path, &[]);
        let code = answer.headers().get("x-router-error").map(|code| code.to_str().unwrap());
        (answer.status().as_u16(), code.unwrap_or_default().to_owned())
    };
    let refused = (503, "middleware".to_owned());
    let passed = (404, String::new());
    for app in ["closed", "open"] {
        let what = format!("the middleware of {app}");
        wait_for(&what, 20, || {
            ask(&platform, app, "/", &[]).headers().contains_key("x-passed").then_some(())
        });
    }
    let burglar = Burglar::start(&platform, "guarded");

    // It traps: what it stands before is closed or goes on, and the neighbours see nothing of it.
    for _ in 0..2 {
        assert_eq!(at(&platform, "closed", "/trap"), refused);
        assert_eq!(at(&platform, "open", "/trap"), passed);
        assert_eq!(at(&platform, "plain", "/trap"), passed);
    }
    for (app, id, status) in [("closed", &closed, 503), ("open", &open, 200)] {
        wait_for("the quarantine", 10, || (state(&platform, id) == "quarantined").then_some(()));
        let answer = ask(&platform, app, "/", &[]);
        assert_eq!(answer.status(), status);
        assert!(!answer.headers().contains_key("x-passed"), "{app}: it is not called any more");
    }

    // The router ends, while berthd is there: it brings everything again.
    kill_router(&platform);
    answers(&platform, "guarded", &[ANN], 200);
    assert_eq!(at(&platform, "closed", "/"), refused, "the quarantine holds");

    // Nobody can bring anything.
    platform.kill();
    answers(&platform, "guarded", &[ANN], 200);
    kill_router(&platform);
    let with_password = ask(&platform, "guarded", "/", &[ANN]);
    assert_eq!(with_password.status(), 503);
    assert_eq!(with_password.headers()["x-router-error"], "middleware");
    assert_eq!(at(&platform, "closed", "/"), refused);
    assert_eq!(at(&platform, "open", "/").0, 200);
    assert_eq!(at(&platform, "plain", "/").0, 200);
    platform.serve().unwrap();
    answers(&platform, "guarded", &[ANN], 200);

    // Only berthd ends; then an operator says that the broken ones are called again.
    platform.kill();
    answers(&platform, "guarded", &[ANN], 200);
    platform.serve().unwrap();
    assert_eq!(state(&platform, &closed), "quarantined");
    assert_eq!(at(&platform, "closed", "/"), refused);
    for (app, id) in [("closed", &closed), ("open", &open)] {
        api(&platform, Method::POST, &format!("/{id}/resume"), None);
        wait_for("it to be called again", 20, || {
            ask(&platform, app, "/", &[]).headers().contains_key("x-passed").then_some(())
        });
    }

    // It is quarantined while nobody listens: that is learned, and can be ended.
    platform.kill();
    for _ in 0..3 {
        assert_eq!(at(&platform, "closed", "/trap"), refused);
    }
    platform.serve().unwrap();
    wait_for("the quarantine", 10, || (state(&platform, &closed) == "quarantined").then_some(()));
    assert_eq!(at(&platform, "closed", "/"), refused);
    api(&platform, Method::POST, &format!("/{closed}/resume"), None);
    answers(&platform, "closed", &[], 200);

    let seen = burglar.finish();
    assert!(seen.contains_key(&401) && seen.contains_key(&503), "{seen:?}");
    assert!(seen.keys().all(|status| [0, 401, 503].contains(status)), "{seen:?}");
}

#[test]
fn installing_changing_and_removing_a_middleware_under_load_fails_no_request() {
    let platform = Platform::start_with(CONFIG);
    let repository = Repository::new();
    let hello = std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap();
    repository.write("app.wasm", hello).commit("A component");
    repository.deploy(&platform, "app");
    let form = Form { get: "/", post: "/", body: "text=x" };
    let load = Load::start(platform.http, "app.localhost", form, 200);
    let steady = || {
        let before = load.sent();
        wait_for("more requests", 20, || (load.sent() > before + 100).then_some(()));
    };
    let stage = |wanted: Option<&str>| {
        wait_for("the change", 20, || {
            let answer = ask(&platform, "app", "/", &[]);
            let stage = answer.headers().get("x-stage").map(|stage| stage.to_str().unwrap());
            (stage == wanted).then_some(())
        });
    };
    let config = |stage: &str| json!({ "response": { "set": { "x-stage": stage } } });
    steady();
    let mut component = plugin("header-rules");
    let id = install(&platform, &component, "app", &config("one"));
    stage(Some("one"));
    steady();
    api(&platform, Method::PUT, &format!("/{id}/config"), Some(config("two")));
    stage(Some("two"));
    steady();
    for version in ["three", "four", "five"] {
        component = extensions::with_section(component, "note", version.as_bytes());
        install(&platform, &component, "app", &config(version));
        stage(Some(version));
        steady();
    }
    api(&platform, Method::POST, &format!("/{id}/disable"), None);
    stage(None);
    steady();
    api(&platform, Method::POST, &format!("/{id}/resume"), None);
    stage(Some("five"));
    steady();
    api(&platform, Method::DELETE, &format!("/{id}"), None);
    stage(None);
    steady();
    let seen = load.finish();
    let shown = &seen.failures[..seen.failures.len().min(20)];
    assert!(
        seen.failures.is_empty(),
        "{} of {} failed: {shown:#?}",
        seen.failures.len(),
        seen.sent
    );
}
