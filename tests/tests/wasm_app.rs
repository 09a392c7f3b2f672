//! A prebuilt `wasi:http` component: the shortest way from a push to an answer.

use acceptance::platform::programs;
use acceptance::{Platform, Repository};

fn component() -> Vec<u8> {
    std::fs::read(programs().join("samples/wasm-hello/app.wasm"))
        .expect("cargo xtask build makes it")
}

#[test]
fn a_pushed_component_answers_and_follows_config_and_rollback() {
    let platform = Platform::start();
    let repository = Repository::new();
    repository.write("app.wasm", component());
    repository.commit("A component");
    let said = repository.deploy(&platform, "hello");
    assert!(said.contains("=====> Application deployed:"), "{said}");
    assert!(said.contains(&platform.url("hello", "")), "{said}");

    let (status, before) = platform.get("hello", "/").unwrap();
    assert_eq!(status, 200, "{before}");
    let posted = platform
        .client("hello.localhost")
        .post(platform.url("hello", "/"))
        .body("a body")
        .send()
        .unwrap();
    assert_eq!(posted.text().unwrap(), "a body");

    platform.must(&["config", "set", "--app", "hello", "GREETING=Servus"]);
    assert!(platform.get("hello", "/").unwrap().1.contains("Servus"));
    platform.must(&["releases", "rollback", "--app", "hello", "v1"]);
    assert_eq!(platform.get("hello", "/").unwrap().1, before);

    let releases: serde_json::Value =
        serde_json::from_str(&platform.must(&["releases", "list", "--app", "hello", "--json"]))
            .unwrap();
    assert_eq!(releases["items"].as_array().unwrap().len(), 3, "{releases}");
}

#[test]
fn a_component_that_imports_what_is_not_granted_is_refused_by_name() {
    let platform = Platform::start();
    let repository = Repository::new();
    // The static buildpack is a component, but no app: it exports no request handler.
    repository.write("app.wasm", std::fs::read(programs().join("buildpacks/static.wasm")).unwrap());
    repository.commit("Not an app");
    let pushed = repository.push(&platform, "hello", &["HEAD:main"]);
    assert!(!pushed.ok);
    assert!(pushed.text.contains("wasi:http/incoming-handler"), "{}", pushed.text);
}
