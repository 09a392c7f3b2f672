//! What a Wasm app has beside its requests: servers that it names, values, secrets, limits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use acceptance::platform::programs;
use acceptance::scene::{METADATA, PRIVATE, PUBLIC};
use acceptance::{Platform, Repository, Scene, wait_for};

const APP: &str = "powers";
const DEPLOY: &str = "[deploy]\nmonitor_ms = 1000\ndrain_ms_max = 3000\n";

fn pushed(platform: &Platform, manifest: &str) -> Repository {
    let repository = Repository::new();
    repository
        .write("app.wasm", std::fs::read(programs().join("samples/wasm-powers/app.wasm")).unwrap());
    repository.write("berth.toml", manifest);
    repository.commit("An app with powers");
    repository.deploy(platform, APP);
    repository
}

fn ask(platform: &Platform, path: &str) -> String {
    platform.get(APP, path).unwrap().1
}

/// An HTTP server outside, which answers with the head that it was sent.
fn mirror(scene: &Scene) -> TcpListener {
    let listener = scene.outside(|| TcpListener::bind(("0.0.0.0", 8080)).unwrap());
    let accepting = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = accepting.accept() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
            let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&head));
        }
    });
    listener
}

#[test]
fn a_wasm_app_asks_the_servers_that_it_names_and_a_refusal_is_typed_and_logged() {
    let scene = Scene::enter();
    scene.put_etc(
        "hosts",
        &format!(
            "127.0.0.1 localhost\n{PUBLIC} api.example other.example\n{PRIVATE} private.example\n\
             {METADATA} metadata.example\n"
        ),
    );
    let listener = mirror(&scene);
    let mut platform = Platform::start_with(DEPLOY);
    platform.must(&["apps", "create", APP]);
    platform.must(&["config", "set", "--app", APP, "API_KEY=s3cret", "PLAIN=seen"]);
    pushed(
        &platform,
        "[wasm]\nhttp = [\"api.example:8080\", \"private.example:8080\", \"metadata.example:8080\"]\n\
         secrets = [\"API_KEY\"]\n",
    );
    let fetched = ask(&platform, "/fetch?http://api.example:8080/some/path");
    assert!(fetched.starts_with("200 GET /some/path HTTP/1.1"), "{fetched}");
    for (host, code) in [
        ("other.example:8080", "HttpRequestDenied"),
        ("api.example:8081", "HttpRequestDenied"),
        ("private.example:8080", "DestinationIpProhibited"),
        ("metadata.example:8080", "DestinationIpProhibited"),
    ] {
        let said = ask(&platform, &format!("/fetch?http://{host}/"));
        assert!(said.contains(code), "{host}: {said}");
    }
    let logged = wait_for("the refusal in the log", 10, || {
        let lines = platform.must(&["logs", "--app", APP]);
        lines.contains("metadata").then_some(lines)
    });
    assert!(logged.contains("[wasm] http = [\"other.example:8080\"]"), "{logged}");

    // A secret is a handle: the server sees it, the app does not.
    let sent = ask(&platform, "/send?http://api.example:8080/hook");
    assert!(sent.starts_with("200 POST /hook") && sent.contains("Bearer s3cret"), "{sent}");
    assert_eq!(ask(&platform, "/secret?API_KEY&s3cret"), "true");
    assert_eq!(ask(&platform, "/env?API_KEY"), "false");
    assert_eq!(ask(&platform, "/env?PLAIN"), "true");

    // The operator lets it reach one private host.
    platform.kill();
    let config = format!("{DEPLOY}[wasm]\nprivate_hosts = ['private.example']\n");
    std::fs::write(platform.data.join("config.toml"), config).unwrap();
    platform.serve().unwrap();
    platform.must(&["ps", "restart", "--app", APP]);
    // Requests reach the one before until the new one has its place.
    wait_for("the private host", 20, || {
        let said = ask(&platform, "/fetch?http://private.example:8080/");
        said.starts_with("200 GET /").then_some(())
    });
    assert!(ask(&platform, "/fetch?http://metadata.example:8080/").contains("Prohibited"));
    let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
}

#[test]
fn values_of_a_wasm_app_outlive_its_releases_and_are_unavailable_while_berthd_is_away() {
    let mut platform = Platform::start_with(&format!("{DEPLOY}[wasm]\nvalues_mib_max = 1\n"));
    let repository = pushed(&platform, "");
    let there = || (ask(&platform, "/put?a&one") == "put").then_some(());
    wait_for("the values", 10, there);
    assert_eq!(ask(&platform, "/get?a"), "one");
    assert_eq!(
        (ask(&platform, "/add?a&two"), ask(&platform, "/add?b&two")),
        ("false".into(), "true".into())
    );
    assert_eq!(ask(&platform, "/keys?"), "a,b");
    platform.must(&["config", "set", "--app", APP, "X=y"]);
    assert_eq!(ask(&platform, "/get?a"), "one", "of the release before");
    for n in 0..4 {
        assert_eq!(ask(&platform, &format!("/fill?large{n}&250000")), "put");
    }
    let full = ask(&platform, "/fill?large4&250000");
    assert!(full.starts_with("quota: "), "{full}");

    platform.kill();
    let begun = Instant::now();
    let (status, said) = platform.get(APP, "/get?a").unwrap();
    assert!(status == 500 && said.starts_with("unavailable: "), "{status} {said}");
    assert_eq!(platform.get(APP, "/").unwrap(), (200, "alive".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(3), "something waited for berthd");
    platform.serve().unwrap();
    wait_for("the values to come back", 20, || (ask(&platform, "/get?a") == "one").then_some(()));

    platform.must(&["apps", "destroy", "--app", APP, "--yes"]);
    let again = || repository.push(&platform, APP, &["HEAD:main", "--force"]).ok.then_some(());
    wait_for("an app of the same name", 60, again);
    wait_for("its values", 10, || (ask(&platform, "/get?a") == "(none)").then_some(()));
}

#[test]
fn a_wasm_app_that_asks_for_more_than_the_operator_allows_is_refused_in_the_push() {
    let platform = Platform::start_with(&format!("{DEPLOY}[wasm]\nmemory_mib_max = 96\n"));
    let repository = pushed(&platform, "[wasm]\nmemory = \"96MiB\"\ncpu_ms = 500\nrequests = 2\n");
    assert_eq!(ask(&platform, "/"), "alive");
    repository.write("berth.toml", "[wasm]\nmemory = \"97MiB\"\n");
    repository.commit("More");
    let pushed = repository.push(&platform, APP, &["HEAD:main"]);
    assert!(!pushed.ok);
    assert!(pushed.text.contains("memory = 97MiB"), "{}", pushed.text);
    assert!(pushed.text.contains("which is 96MiB"), "{}", pushed.text);
    assert_eq!(ask(&platform, "/"), "alive", "the release before serves");
    repository.write("berth.toml", "[wasm]\nhttp = [\"https://api.example\"]\n");
    repository.commit("A URL is no server");
    let pushed = repository.push(&platform, APP, &["HEAD:main"]);
    assert!(!pushed.ok && pushed.text.contains("berth.toml, line 2"), "{}", pushed.text);
}
