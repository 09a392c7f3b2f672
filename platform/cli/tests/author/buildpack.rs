//! Writing a buildpack, as its author does it.

use crate::project::Project;

#[test]
fn what_new_makes_is_built_tested_and_packed() {
    let project = Project::buildpack("acme-make");
    project.run(&["buildpack", "build"]).good();
    let said = project.run(&["buildpack", "test"]).good();
    assert!(said.contains("ok     first: it fits and builds"), "{said}");
    assert!(said.contains("ok     none: it does not fit: there is no Makefile"), "{said}");
    assert!(said.contains("2 of 2 cases passed"), "{said}");
    let built = std::fs::read(project.component()).unwrap();
    let said = project.run(&["buildpack", "pack"]).good();
    assert!(said.contains("-----> acme-make 0.1.0, "), "{said}");
    let packed = std::fs::read(project.path("acme-make-0.1.0.wasm")).unwrap();
    assert!(packed == built, "what was packed is not what was tested");
    let manifest = project.read("buildpack.toml");
    assert!(built.ends_with(manifest.as_bytes()), "the manifest is not in the component");

    // The data of it.
    let said = project.run(&["buildpack", "test", "--case", "first", "--json"]).good();
    let case: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(case["calls"], serde_json::json!(["run make"]));
    assert_eq!(case["end"]["processes"][0]["command"], serde_json::json!(["/workspace/web"]));

    // What is not as it was expected is red, each with what it is instead.
    let first = project.read("tests/first.toml");
    for (old, new, told) in [
        ("argv = [\"make\"]", "argv = [\"ninja\"]", "'make' was run where the case has 'ninja'"),
        ("# exit_code = 0", "exit_code = 2", "'make' failed with exit code 2"),
        ("[[steps]]", "[[steps]]\n[[steps]]", "'make' is in the case but was not run"),
        ("[[steps]]\nargv = [\"make\"]", "", "the case has no more steps"),
        ("calls = [\"run make\"]", "calls = []", "it asked the host for [\"run make\"], not []"),
        ("\"/workspace/web\"", "\"web\"", "the process web is [\"/workspace/web\"]"),
        ("Building with make", "Building with ninja", "no line of the log has"),
        ("detect = \"pass\"", "detect = \"fail\"", "that it does not fit was expected"),
    ] {
        project.write("tests/first.toml", &first.replace(old, new));
        let said = project.run(&["buildpack", "test"]).refused();
        assert!(said.contains("FAILED first") && said.contains(told), "{told}: {said}");
        assert!(said.contains("1 of 2 cases passed"), "{said}");
    }
    project.write("tests/first.toml", &first.replace("calls", "call"));
    let said = project.run(&["buildpack", "test"]).refused();
    assert!(said.contains("tests/first.toml:11: unknown field `call`"), "{said}");
    project.write("tests/first.toml", &first);

    // The manifest that counts is the one inside.
    project.edit("buildpack.toml", "0.1.0\"\napi", "0.1.1\"\napi");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let component = std::fs::File::options().append(true).open(project.component()).unwrap();
    component.set_modified(later).unwrap();
    let said = project.run(&["buildpack", "pack"]).refused();
    assert!(said.contains("buildpack.toml changed since the component was built"), "{said}");
}

#[test]
fn layers_and_what_is_written_into_them_are_judged_by_a_builds_own_rules() {
    let project = Project::buildpack("acme-layers");
    project.edit(
        "src/lib.rs",
        "        let mut output = output();",
        "        let key = serde_json::json!({ \"recipe\": 1 });\n        \
         let (conf, same) = layer(\"conf\", &[\"launch\", \"cache\"], &key)?;\n        \
         if !same {\n            conf.write(\"web.conf\", b\"port = $PORT\", false)?;\n        }\n        \
         conf.env(\"launch\", \"default\", \"CONF\", &conf.path());\n        \
         let mut output = output();",
    );
    project.edit("src/lib.rs", "fail, has, log,", "fail, has, layer, log,");
    project.edit(
        "Cargo.toml",
        "berth-buildpack-kit = { path = \"kit\" }",
        "berth-buildpack-kit = { path = \"kit\" }\nserde_json = \"1\"",
    );
    project.run(&["buildpack", "build"]).good();
    let first = project.read("tests/first.toml");
    let calls = |more: &str| {
        first.replace("calls = [\"run make\"]", &format!("calls = [\"run make\", {more}]"))
    };
    let env = "\"env conf launch default CONF=/layers/acme-layers/conf\"";
    let written = format!("\"open conf launch,cache\", \"write conf/web.conf\", {env}");
    let file = "[expect.files]\n\"conf/web.conf\" = \"port = $PORT\"\n";
    project.write("tests/first.toml", &format!("{}\n{file}", calls(&written)));
    // What the last build left is kept as long as the key is the same.
    let kept = calls(&format!("\"open conf launch,cache\", {env}"));
    let restored = |recipe| format!("[restored.conf]\nrecipe = {recipe}\n");
    project.write("tests/kept.toml", &format!("app = \"first\"\n{}{kept}", restored(1)));
    project.write(
        "tests/dropped.toml",
        &format!("app = \"first\"\n{}{}", restored(0), calls(&written)),
    );
    let said = project.run(&["buildpack", "test"]).good();
    assert!(said.contains("4 of 4 cases passed"), "{said}");

    project.write(
        "tests/first.toml",
        &format!("{}\n{}", calls(&written), file.replace("port", "host")),
    );
    let said = project.run(&["buildpack", "test", "--case", "first"]).refused();
    assert!(said.contains("the file conf/web.conf has no 'host = $PORT'"), "{said}");
    // What a build refuses is refused here, in the same words.
    project.edit("src/lib.rs", "\"web.conf\"", "\"../web.conf\"");
    project.run(&["buildpack", "build"]).good();
    let said = project.run(&["buildpack", "test", "--case", "first"]).refused();
    assert!(said.contains("is not a plain relative path"), "{said}");
}

#[test]
fn a_mistake_is_told_with_its_place() {
    let project = Project::buildpack("acme-wrong");
    let said = project.run(&["buildpack", "test"]).refused();
    assert!(said.contains("build it first") && said.contains("berth buildpack build"), "{said}");
    project.edit("src/lib.rs", "struct Buildpack;", "struct Buildpack");
    let said = project.run(&["buildpack", "build"]).refused();
    assert!(said.contains("error: expected ") && said.contains("src/lib.rs:"), "{said}");
    project.edit("buildpack.toml", "berth:buildpack@0.1.0", "berth:buildpack@0.2.0");
    let said = project.run(&["buildpack", "build"]).refused();
    assert!(said.contains("buildpack.toml:4: buildpack.api: "), "{said}");
    let again = project.run_above(&["buildpack", "new", "acme-wrong"]).refused();
    assert!(again.contains("is there already and not empty"), "{again}");
    let said = project.run_above(&["buildpack", "new", "Acme/make"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.err.contains("is not a valid buildpack id"), "{}", said.err);
    // An extension is no buildpack, however it is called.
    std::fs::write(project.component(), b"text").unwrap();
    project.edit("buildpack.toml", "berth:buildpack@0.2.0", "berth:buildpack@0.1.0");
    let said = project.run(&["buildpack", "test"]).refused();
    assert!(said.contains("this is not a WebAssembly file"), "{said}");
}
