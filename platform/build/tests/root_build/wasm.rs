//! Wasm apps that are made from source, and what is said when they cannot be.

use berth_model::{Digest, Runtime};

use crate::builds::show;
use crate::platform::{Built, Platform, Source};

fn component(built: &Built) -> Digest {
    match built.outcome().output.manifest.runtime {
        Runtime::Wasm { component } => component,
        Runtime::Container => panic!("no Wasm app:\n{}", built.log()),
    }
}

/// Builds a sample and a change of it, with what the first build left.
async fn builds_and_changes(platform: &Platform, sample: &str, file: &str) -> (Source, Digest) {
    let mut app = platform.app();
    let source = Source::sample(sample);
    let first = platform.build(&mut app, &source).await;
    show(&format!("{sample}, first"), &first);
    assert!(first.outcome().output.layers.is_empty(), "nothing but the component is kept");
    let changed = source.clone().edit(file, "nothing here", "nothing there");
    let second = platform.build(&mut app, &changed).await;
    show(&format!("{sample}, changed"), &second);
    assert!(second.log().contains("kept from the last build"), "{}", second.log());
    assert_ne!(component(&second), component(&first));
    let again = platform.build(&mut app, &changed).await;
    assert_eq!(component(&again), component(&second));
    (source, component(&first))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_app_is_the_same_component_wherever_it_is_made() {
    let platform = Platform::start().await;
    let (source, first) = builds_and_changes(&platform, "wasm-rust", "src/lib.rs").await;
    let fresh = platform.build(&mut platform.fresh_app(), &source).await;
    show("wasm-rust, as another app", &fresh);
    assert_eq!(component(&fresh), first);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_app_is_made_and_its_change_fetches_nothing() {
    let platform = Platform::start().await;
    builds_and_changes(&platform, "wasm-python", "app.py").await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_app_is_made_and_its_change_fetches_nothing() {
    let platform = Platform::start().await;
    builds_and_changes(&platform, "wasm-javascript", "src/router.ts").await;
    platform.stop().await;
}

const PYTHON: (&str, &str) = ("berth.toml", "[wasm]\nbuild = 'python'");
const JAVASCRIPT: (&str, &str) = ("berth.toml", "[wasm]\nbuild = 'javascript'");
const RUST: (&str, &str) = ("berth.toml", "[wasm]\nbuild = 'rust'");

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_is_told_before_anything_is_fetched() {
    let platform = Platform::start().await;
    let table = [
        (vec![("berth.toml", "[wasm]\nbuild = 'go'")], "line 2: 'build' must be"),
        (vec![RUST, ("main.rs", "")], "there is no Cargo.toml at the top"),
        (
            vec![RUST, ("Cargo.toml", ""), ("rust-toolchain", "1.2.3\n")],
            "rust-toolchain asks for 1.2.3, which is not in the inventory. There are: 1.",
        ),
        (vec![PYTHON, ("web.py", "")], "there is none of app.py, main.py"),
        (
            vec![("berth.toml", "[wasm]\nbuild = 'python'\nmain = 'web.py'"), ("app.py", "")],
            "names the file 'web.py' ([wasm] main), which is not in the commit",
        ),
        (
            vec![("berth.toml", "[wasm]\nbuild = 'python'\nmain = 'my-app.py'"), ("my-app.py", "")],
            "'my-app.py' cannot be imported",
        ),
        (vec![PYTHON, ("app.py", ""), ("uv.lock", "")], "uv export"),
        (vec![JAVASCRIPT, ("server.js", "")], "there is none of index.js"),
        (
            vec![JAVASCRIPT, ("index.js", ""), ("pnpm-lock.yaml", "")],
            "Commit a package-lock.json instead",
        ),
        (vec![JAVASCRIPT, ("index.js", ""), ("package.json", "{\n oops")], "package.json, line 2"),
        (vec![("Cargo.toml", "")], "write [wasm] build = \"rust\" in berth.toml"),
    ];
    for (files, part) in table {
        let built = platform.build(&mut platform.fresh_app(), &Source::of(&files)).await;
        let text = built.error();
        assert!(text.contains(part), "{part}: {text}");
    }
    platform.stop().await;
}

/// The build fails with this error, and its log has this line.
async fn fails(platform: &Platform, files: &[(&str, &str)], line: &str, error: &str) {
    let built = platform.build(&mut platform.app(), &Source::of(files)).await;
    let text = built.error();
    assert!(text.contains(error), "{error}: {text}\n{}", built.log());
    assert!(built.log().contains(line), "{line}:\n{}", built.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_an_apps_python_is_shown() {
    let platform = Platform::start().await;
    let said = "'making a component with componentize-py 0.25.1' failed";
    for (text, line) in [
        ("def app(:\n", "SyntaxError"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("def other():\n    pass\n", "app.py answers no requests"),
    ] {
        fails(&platform, &[PYTHON, ("app.py", text)], line, said).await;
    }
    let native = [PYTHON, ("app.py", ""), ("requirements.txt", "markupsafe==3.0.2\n")];
    fails(&platform, &native, "No matching distribution", "packages that are pure Python").await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_an_apps_javascript_is_shown() {
    let platform = Platform::start().await;
    let bundle = "'esbuild index.js' failed";
    for (text, line) in [
        ("const a = ;\n", "index.js:1:10"),
        ("import 'no-such-package';\n", "Could not resolve \"no-such-package\""),
    ] {
        fails(&platform, &[JAVASCRIPT, ("index.js", text)], line, bundle).await;
    }
    let made = "'making a component with componentize-js 0.23.0' failed";
    let silent = [JAVASCRIPT, ("index.js", "export const a = 1;\n")];
    fails(&platform, &silent, "index.js answers no requests", made).await;
    let broken = [JAVASCRIPT, ("index.js", "null.x;\nexport default { fetch() {} };\n")];
    fails(&platform, &broken, "null", made).await;
    platform.stop().await;
}

const CARGO: &str = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_an_apps_rust_is_shown_and_odd_files_are_refused() {
    let platform = Platform::start().await;
    let said = "The lines above are cargo's own";
    let crate_of = |text| [RUST, ("Cargo.toml", CARGO), ("src/lib.rs", text)];
    fails(&platform, &crate_of("fn f() -> u8 { \"\" }\n"), "src/lib.rs:1:16", said).await;
    fails(&platform, &crate_of("pub fn f() {}\n"), "answers no requests", said).await;
    let plain = CARGO.replace("cdylib", "rlib");
    let files = [RUST, ("Cargo.toml", plain.as_str()), ("src/lib.rs", "")];
    fails(&platform, &files, "crate-type = [\"cdylib\"]", said).await;
    // What the app's own code leaves beside the component is not followed, and does not pass.
    let odd = "fn main() {\n    let made = std::process::Command::new(\"mkfifo\").arg(\"/layers/wasm/component/odd\").status();\n    assert!(made.unwrap().success());\n}\n";
    let hostile = |code: &str| Source::sample("wasm-rust").with("build.rs", code);
    let built = platform.build(&mut platform.app(), &hostile(odd)).await;
    assert!(built.error().contains("odd"), "{}", built.error());
    let link = odd
        .replace("\"mkfifo\").arg(", "\"ln\").arg(\"-s\").arg(\"/etc/passwd\").arg(")
        .replace("component/odd", "component/app.wasm");
    // The component takes the place of the link.
    component(&platform.build(&mut platform.app(), &hostile(&link)).await);
    platform.stop().await;
}
