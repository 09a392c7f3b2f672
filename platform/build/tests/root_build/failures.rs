//! Builds that fail, are ended, or reach for what is not theirs: a reason for the one who pushed,
//! and nothing left behind.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_build::{BuildError, Settings};
use berth_container::{Request, Role, Start};
use berth_model::{InstanceId, Limits};
use tokio_util::sync::CancellationToken;

use crate::platform::{App, Built, Platform, Source};

/// A wheel of a package named django with nothing in it, so that these tests need no registry.
const WHEEL: &str = "\
    UEsDBBQAAAAIAAAAIQAAAAAAAgAAAAAAAAASAAAAZGphbmdvL19faW5pdF9fLnB5AwBQSwMEFAAAAAgAAAAhADagrA4pAAAA\
    LgAAABsAAABkamFuZ28tMC5kaXN0LWluZm8vTUVUQURBVEHzTS1JTEksSdQNSy0qzszPs1Iw0jPk8kvMTbVSSMlKzEvP54LL\
    GHABAFBLAwQUAAAACAAAACEAqmXkFUoAAABIAAAAGAAAAGRqYW5nby0wLmRpc3QtaW5mby9XSEVFTAvPSE3N0Q1LLSrOzM+z\
    UjDUM+ByT81LLUosyS+yUqjgCsrPL9H1LNYNKC1KzclMslIoKSpN5QpJTLdSKKg01s3Lz0vVTcyr5AIAUEsDBBQAAAAIAAAA\
    IQBaHzBQQAAAAGoAAAAZAAAAZGphbmdvLTAuZGlzdC1pbmZvL1JFQ09SREvJSsxLz9ePj8/MyyyJj9crqNTR4UoBC+oa6KVk\
    FpfoZual5ev7uoY4ujiGOGKXDfdwdfXBLhXk6uwf5AKUAwBQSwECFAMUAAAACAAAACEAAAAAAAIAAAAAAAAAEgAAAAAAAAAA\
    AAAApAEAAAAAZGphbmdvL19faW5pdF9fLnB5UEsBAhQDFAAAAAgAAAAhADagrA4pAAAALgAAABsAAAAAAAAAAAAAAKQBMgAA\
    AGRqYW5nby0wLmRpc3QtaW5mby9NRVRBREFUQVBLAQIUAxQAAAAIAAAAIQCqZeQVSgAAAEgAAAAYAAAAAAAAAAAAAACkAZQA\
    AABkamFuZ28tMC5kaXN0LWluZm8vV0hFRUxQSwECFAMUAAAACAAAACEAWh8wUEAAAABqAAAAGQAAAAAAAAAAAAAApAEUAQAA\
    ZGphbmdvLTAuZGlzdC1pbmZvL1JFQ09SRFBLBQYAAAAABAAEABYBAACLAQAAAAA=";

/// A Python app whose Django command is this script: a way to run anything in a build container.
fn script(python: &str) -> Source {
    Source::of(&[
        ("requirements.txt", "./django-0-py3-none-any.whl\n"),
        ("settings.py", "STATIC_ROOT = 'x'\n"),
        ("berth.toml", "[processes.web]\ncommand = 'true'\n"),
        ("manage.py", python),
    ])
    .with_bytes("django-0-py3-none-any.whl", STANDARD.decode(WHEEL).unwrap())
}

async fn run(platform: &Platform, app: &mut App, python: &str) -> Built {
    platform.build(app, &script(python)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_nothing_fits_gets_every_reason() {
    let platform = Platform::start().await;
    let mut app = platform.app();
    let text = platform.build(&mut app, &Source::of(&[("notes.md", "x")])).await.error();
    for part in [
        "No buildpack fits",
        "wasm",
        "python",
        "there is no requirements.txt",
        "there is no package.json",
        "there is no index.html",
        "there is no Procfile",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let table = [
        (Source::of(&[("requirments.txt", "flask")]), "did you mean requirements.txt?"),
        (
            Source::of(&[("requirements.txt", ""), ("Procfile", "web: a\n<<<<<<< HEAD\n")]),
            "Procfile, line 2: a merge conflict",
        ),
        (Source::of(&[("index.html", ""), ("Procfile", "web a")]), "Procfile, line 1"),
        (
            Source::of(&[("index.html", ""), ("berth.toml", "[build]\nbuildpack = ['x']")]),
            "berth.toml, line 2: unknown key 'buildpack'. Did you mean 'buildpacks'?",
        ),
        (
            Source::of(&[("index.html", ""), ("berth.toml", "[build]\nbuildpacks = ['ruby']")]),
            "names the buildpack 'ruby', which is not installed",
        ),
        (
            Source::of(&[("index.html", ""), ("berth.toml", "[build]\nbuildpacks = ['node']")]),
            "do not fit its source",
        ),
        (Source::of(&[("package.json", "{\n  oops\n}")]), "package.json, line 2"),
        (
            Source::of(&[("package.json", "{}"), ("package-lock.json", "{}"), ("yarn.lock", "")]),
            "several package managers",
        ),
        (
            Source::of(&[("package.json", r#"{"engines":{"node":"18"}}"#)]),
            "asks for Node 18, which is not in the inventory. There are: 20.0.0 to",
        ),
        (
            Source::of(&[("requirements.txt", ""), (".python-version", "3.9")]),
            "asks for Python 3.9, which is not in the inventory. There are: 3.11",
        ),
        (
            Source::of(&[("requirements.txt", ""), ("runtime.txt", "python-3.11")]),
            ".python-version",
        ),
        (
            Source::of(&[("requirements.txt", "-r more.txt")]),
            "names the file 'more.txt', which is not in the commit",
        ),
        (
            Source::of(&[
                ("index.html", ""),
                ("app.json", r#"{"env":{"API_KEY":{"required":true}}}"#),
            ]),
            "berth config set API_KEY=",
        ),
        (Source::of(&[("app.wasm", "\0asm\u{1}\0\0\0")]), "not a component"),
    ];
    for (source, part) in table {
        let text = platform.build(&mut app, &source).await.error();
        assert!(text.contains(part), "{part}: {text}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_says_so_and_its_output_is_shown_without_secrets() {
    let platform = Platform::start().await;
    let mut app = platform.app();
    app.config.insert("API_TOKEN".to_owned(), "very-secret-value-1".to_owned());
    let built = run(&platform, &mut app, "import os, sys\nprint('token', os.environ['API_TOKEN'])\nprint('\\x1b[2Jcleared')\nsys.exit(3)\n").await;
    assert!(built.error().contains("exit code 3"), "{}", built.error());
    assert!(
        built.log().contains("token [API_TOKEN]") && !built.log().contains("very-secret-value-1"),
        "{}",
        built.log()
    );
    assert!(!built.log().contains('\u{1b}'));
    assert!(app.restored.is_none());
    let missing = platform
        .build(&mut app, &Source::of(&[("requirements.txt", "surely-no-such-package-berth==9\n")]))
        .await;
    assert!(
        missing.error().contains("pip install")
            && missing.log().contains("No matching distribution"),
        "{}",
        missing.log()
    );
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_container_is_confined() {
    let platform = Platform::start().await;
    let mut app = platform.app();
    let built = run(&platform, &mut app, include_str!("confined.py")).await;
    let log = built.log();
    built.outcome();
    for line in [
        "uid 1000 1000",
        "CapEff 0000000000000000",
        "NoNewPrivs 1",
        "Seccomp 2",
        "interfaces lo",
        "direct refused",
        "metadata 403",
        "host 403",
        "no network in this step: 403",
        "write /usr refused",
        "agent socket absent",
        "HOME /tmp",
        "CI true",
        "epoch 1700000000",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_ends_at_once_with_its_container() {
    let platform = Platform::start().await;
    let mut app = platform.app();
    // The step itself cancels: its line is the event.
    let cancel = CancellationToken::new();
    let source = script("import time\nprint('sleeping now', flush=True)\ntime.sleep(600)\n");
    let watched = cancel.clone();
    let begun = Instant::now();
    let built = platform.build_watched(&mut app, &source, cancel, move |line| {
        if line.contains("sleeping now") {
            watched.cancel();
        }
    });
    let built = built.await;
    assert!(matches!(built.result, Err(BuildError::Cancelled)), "{}", built.log());
    assert!(built.log().contains("sleeping now") && begun.elapsed() < Duration::from_secs(60));
    platform.assert_clean().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_processes_disk_and_time_are_bounded() {
    let limits = Limits { memory_mib: 256, pids: 64, disk_mib: 512, ..Limits::build() };
    let platform =
        Platform::start_with(Settings { limits, build_s_max: 12, ..Settings::default() }).await;
    let mut app = platform.app();
    let built = run(&platform, &mut app, "x = bytearray(400 << 20)\nprint(len(x))\n").await;
    assert!(built.log().contains("256 MiB of memory"), "{}", built.log());
    assert!(built.error().contains("ran out of memory"), "{}", built.error());
    let built = run(&platform, &mut app, "import os\nn = 0\ntry:\n    while n < 200:\n        if os.fork() == 0:\n            import time; time.sleep(60)\n        n += 1\nexcept BlockingIOError:\n    print('forks end at', n)\n").await;
    assert!(built.log().contains("forks end at"), "{}", built.log());
    let built = run(&platform, &mut app, "n = 0\nwith open('/tmp/hog', 'wb') as f:\n    try:\n        while n < 2000:\n            f.write(bytes(1 << 20)); n += 1\n    except OSError as e:\n        print('disk ends:', e.errno)\n").await;
    assert!(built.log().contains("disk ends: 28"), "{}", built.log());
    let built = run(&platform, &mut app, "import time\ntime.sleep(600)\n").await;
    assert!(
        built.error().contains("ran out of time") || built.error().contains("longer than"),
        "{}",
        built.error()
    );
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_platform_that_died_are_ended() {
    let platform = Platform::start().await;
    let start = Start {
        instance: platform.id(InstanceId::new),
        app: platform.app().id,
        block: 7,
        role: Role::Build,
        layers: platform.stack.build.iter().map(|layer| layer.diff_id).collect(),
        limits: Limits::build(),
        tty: None,
        stdin: false,
        time_ms_max: 60_000,
        volumes: Vec::new(),
        links: Vec::new(),
    };
    platform.unpack_layers(&platform.stack.build).await;
    platform.agent.call(&Request::Start(start), &[]).await.unwrap();
    assert_eq!(platform.builder.end_abandoned().await.unwrap(), 1);
    platform.assert_clean().await;
    assert_eq!(platform.builder.end_abandoned().await.unwrap(), 0);
    platform.stop().await;
}
