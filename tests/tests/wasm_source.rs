//! Wasm apps that a push makes from their source.

use acceptance::{Platform, Repository};

/// Pushes a sample with a configuration, asks it, and pushes a change.
fn pushed_and_changed(sample: &str, file: &str, language: &str) {
    let platform = Platform::start();
    let repository = Repository::of_sample(sample);
    platform.must(&["apps", "create", "app", "--no-remote"]);
    platform.must(&["config", "set", "--app", "app", "GREETING=Servus"]);
    let said = repository.deploy(&platform, "app");
    assert!(said.contains("-----> Wasm app in "), "{said}");
    let (status, text) = platform.get("app", "/").unwrap();
    assert_eq!((status, text.as_str()), (200, format!("Servus from {language}\n").as_str()));
    let sent = "x".repeat(100_000);
    let posted =
        platform.client("app.localhost").post(platform.url("app", "/")).body(sent.clone()).send();
    assert_eq!(posted.unwrap().text().unwrap(), sent);
    assert_eq!(platform.get("app", "/nowhere").unwrap().0, 404);

    // The configuration is the release's, and not what was set when the app was built.
    platform.must(&["config", "set", "--app", "app", "GREETING=Griaß di"]);
    assert!(platform.get("app", "/").unwrap().1.starts_with("Griaß di from"));

    let path = repository.path().join(file);
    let source = std::fs::read_to_string(&path).unwrap();
    let said = format!(" from {language}");
    assert!(source.contains(&said), "{source}");
    repository.write(file, source.replace(&said, &format!(" again{said}")));
    repository.commit("A change");
    let said = repository.deploy(&platform, "app");
    assert!(said.contains("kept from the last build"), "{said}");
    assert_eq!(platform.get("app", "/").unwrap().1, format!("Griaß di again from {language}\n"));
}

#[test]
fn python_source_becomes_a_wasm_app() {
    pushed_and_changed("wasm-python", "app.py", "Python");
}

#[test]
fn typescript_source_becomes_a_wasm_app() {
    pushed_and_changed("wasm-javascript", "src/index.ts", "JavaScript");
}

#[test]
fn rust_source_becomes_a_wasm_app() {
    pushed_and_changed("wasm-rust", "src/lib.rs", "Rust");
}
