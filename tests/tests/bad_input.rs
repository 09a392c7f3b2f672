//! Pushes that nothing can be made of: a clear reason, and nothing is lost.

use acceptance::{Platform, Repository};

#[test]
fn each_kind_of_bad_source_is_refused_with_its_reason() {
    let platform = Platform::start_with("[push]\nfiles_max = 200\nfile_mib_max = 1\n");
    type Prepare = fn(&Repository);
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
        oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    let page: Prepare = |r| {
        r.write("index.html", "a page");
    };
    let cases: [(&str, Prepare, &str); 7] = [
        (
            "empty",
            |r| {
                r.write("notes.txt", "nothing to run");
            },
            "No buildpack fits this source",
        ),
        (
            "unknown-key",
            |r| {
                r.write("berth.toml", "[build]\nbuildpaks = []\n");
            },
            "buildpacks",
        ),
        (
            "markers",
            |r| {
                r.write("Procfile", "<<<<<<< HEAD\nweb: true\n");
            },
            "Procfile",
        ),
        (
            "files",
            |r| {
                for number in 0..201 {
                    r.write(&format!("f/{number}"), "x");
                }
            },
            "200",
        ),
        (
            "large",
            |r| {
                r.write("large.bin", vec![b'x'; 2 << 20]);
            },
            "large.bin",
        ),
        (
            "link",
            |r| std::os::unix::fs::symlink("/etc/passwd", r.path().join("passwd")).unwrap(),
            "passwd",
        ),
        (
            "lfs",
            |r| {
                r.write("big.bin", POINTER);
            },
            "LFS",
        ),
    ];
    for (name, prepare, reason) in cases {
        let repository = Repository::new();
        // All but the empty one would build without what is wrong with them.
        if name != "empty" {
            page(&repository);
        }
        prepare(&repository);
        repository.commit("Bad");
        let pushed = repository.push(&platform, &format!("bad-{name}"), &["HEAD:main"]);
        assert!(!pushed.ok, "{name}: {}", pushed.text);
        assert!(pushed.text.contains(reason), "{name} has no {reason:?}: {}", pushed.text);
    }
    let repository = Repository::new();
    repository.commit("An app with a name that cannot be");
    for name in ["Upper", "a_b", "-x", &"long".repeat(20)] {
        let pushed = repository.push(&platform, name, &["HEAD:main"]);
        assert!(!pushed.ok, "{name}");
        let reason = format!("'{name}' is not a valid app name: ");
        assert!(pushed.text.contains(&reason), "{name}: {}", pushed.text);
    }
    let list: serde_json::Value =
        serde_json::from_str(&platform.must(&["apps", "list", "--json"])).unwrap();
    assert!(list["items"].as_array().unwrap().iter().all(|app| app["release"].is_null()), "{list}");
}

#[test]
fn a_push_makes_no_app_where_that_is_switched_off() {
    let platform = Platform::start_with("[push]\ncreate_apps = false\n");
    let repository = Repository::new();
    repository.write("app.wasm", "not a component");
    repository.commit("An app");
    let pushed = repository.push(&platform, "hello", &["HEAD:main"]);
    assert!(!pushed.ok && pushed.text.contains("berth apps create hello"), "{}", pushed.text);
    assert!(platform.must(&["apps", "list", "--quiet"]).is_empty());

    // As it says: made first, it takes pushes.
    platform.must(&["apps", "create", "hello", "--no-remote"]);
    let pushed = repository.push(&platform, "hello", &["HEAD:main"]);
    assert!(
        !pushed.ok && pushed.text.contains("app.wasm: this is not a WebAssembly file"),
        "{}",
        pushed.text
    );
}
