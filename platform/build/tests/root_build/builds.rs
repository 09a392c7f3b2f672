//! The sample apps, built as a push builds them, and run.

use std::time::Instant;

use berth_model::{Digest, Runtime};
use sha2::{Digest as _, Sha256};

use crate::platform::{Built, Platform, Source};

pub(crate) fn layers(built: &Built) -> Vec<&str> {
    built.outcome().output.layers.iter().map(|layer| layer.name.as_str()).collect()
}

pub(crate) fn show(what: &str, built: &Built) {
    eprintln!("== {what}\n{}", built.log());
    for step in &built.outcome().times {
        eprintln!("   {:>8.1} ms  {}", step.took.as_secs_f64() * 1000.0, step.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_site_is_served_by_nginx_from_its_own_layer() {
    let platform = Platform::start().await;
    let mut app = platform.app();
    let site = Source::sample("static-site");
    let first = platform.build(&mut app, &site).await;
    show("static, first", &first);
    assert_eq!(layers(&first), ["stack", "static/conf", "static/nginx", "app"]);

    let running = platform.run(first.outcome()).await;
    let page = running.get("/", "");
    assert_eq!(page.status, 200);
    assert!(
        page.body.contains("It is moored")
            && page.header("content-type").unwrap().starts_with("text/html")
    );
    let tag = page.header("etag").unwrap().to_owned();
    assert_eq!(running.get("/", &format!("If-None-Match: {tag}\r\n")).status, 304);
    assert_eq!(running.get("/", &format!("If-None-Match: W/{tag}\r\n")).status, 304);
    let part = running.get("/style.css", "Range: bytes=0-4\r\n");
    assert_eq!((part.status, part.body.as_str()), (206, ":root"));
    assert_eq!(running.get("/about", "").status, 200);
    assert_eq!(running.get("/../../etc/passwd", "").status, 400);
    let missing = running.get("/missing", "");
    assert_eq!(missing.status, 404);
    assert!(missing.body.contains("Not here"));
    running.stop().await;

    let changed = site
        .clone()
        .edit("public/index.html", "moored", "docked")
        .with("berth.toml", "[static]\nspa = true\n");
    let second = platform.build(&mut app, &changed).await;
    show("static, changed", &second);
    assert!(!second.outcome().container_started);
    assert_eq!(second.outcome().output.layers[2], first.outcome().output.layers[2]);
    let running = platform.run(second.outcome()).await;
    let page = running.get("/any/client/route", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(page.status, 200);
    assert!(page.body.contains("It is docked"));
    assert_eq!(running.get("/berth.toml", "").status, 404);
    running.stop().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flask_app_gets_a_server_and_a_change_of_source_starts_no_container() {
    let platform = Platform::start().await;
    let mut app = platform.app();
    let flask = Source::sample("python-flask");
    let first = platform.build(&mut app, &flask).await;
    show("python, first", &first);
    assert_eq!(layers(&first), ["stack", "python/packages", "python/server", "app"]);
    assert!(first.log().contains("gunicorn 23.0.0 is added"));
    let running = platform.run(first.outcome()).await;
    assert!(running.get("/", "").body.contains("Hello from Flask"));
    let post = running.ask("POST /notes HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\ntext=ahoy");
    assert_eq!(post.status, 303);
    running.stop().await;

    let begun = Instant::now();
    let second = platform
        .build(&mut app, &flask.clone().edit("app.py", "Hello from Flask", "Hello again"))
        .await;
    eprintln!("second build: {:?}", begun.elapsed());
    show("python, changed", &second);
    assert!(!second.outcome().container_started);
    assert_eq!(second.outcome().output.layers[..3], first.outcome().output.layers[..3]);

    // Another data folder knows nothing of the first builds: the same image all the same.
    let fresh = platform.build(&mut platform.fresh_app(), &flask).await;
    show("python, as another app", &fresh);
    assert_eq!(fresh.outcome().output, first.outcome().output);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_express_app_runs_on_the_node_it_asks_for_and_a_change_of_source_starts_no_container() {
    let platform = Platform::start().await;
    let mut app = platform.app();
    let express = Source::sample("node-express");
    let first = platform.build(&mut app, &express).await;
    show("node, first", &first);
    assert_eq!(layers(&first), ["stack", "node/modules", "node/node", "node/npm", "app"]);
    let running = platform.run(first.outcome()).await;
    assert!(running.get("/api/votes", "").body.contains("\"node\":\"v22."));
    assert_eq!(running.get("/style.css", "").status, 200);
    running.stop().await;

    let begun = Instant::now();
    let second = platform
        .build(&mut app, &express.clone().edit("server.js", "Hello from Express", "Hello again"))
        .await;
    eprintln!("second build: {:?}", begun.elapsed());
    show("node, changed", &second);
    assert!(!second.outcome().container_started);
    assert_eq!(second.outcome().output.layers[..4], first.outcome().output.layers[..4]);

    let fresh = platform.build(&mut platform.fresh_app(), &express).await;
    show("node, as another app", &fresh);
    assert_eq!(fresh.outcome().output, first.outcome().output);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_an_image_without_layers() {
    let platform = Platform::start().await;
    let component = wat::parse_str(
        r#"(component (component $none) (instance $handler (instantiate $none))
           (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#,
    )
    .unwrap();
    let digest = Digest::from_sha256(Sha256::digest(&component).into());
    let source = Source::default().with_bytes("app.wasm", component.clone()).with("notes.md", "x");
    let built = platform.build(&mut platform.app(), &source).await;
    show("wasm", &built);
    let outcome = built.outcome();
    assert!(outcome.output.layers.is_empty() && !outcome.container_started);
    assert_eq!(outcome.output.manifest.runtime, Runtime::Wasm { component: digest });
    assert_eq!(platform.blobs.read(&digest, 1 << 20).unwrap(), component);
    let other = Source::default().with_bytes("app.wasm", wat::parse_str("(component)").unwrap());
    let text = platform.build(&mut platform.app(), &other).await.error();
    assert!(text.contains("app.wasm") && text.contains("wasi:http/incoming-handler"), "{text}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_asked_for_only_by_a_build_that_needs_one() {
    let platform = Platform::start().await;
    let component = wat::parse_str(
        r#"(component (component $none) (instance $handler (instantiate $none))
           (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#,
    )
    .unwrap();
    let wasm = Source::default().with_bytes("app.wasm", component);
    platform.build_without_stack(&mut platform.app(), &wasm).await.outcome();
    let site = Source::of(&[("index.html", "<h1>Hello</h1>")]);
    let refused = platform.build_without_stack(&mut platform.fresh_app(), &site).await.error();
    assert_eq!(refused, "the stack cannot be made here");
    platform.assert_clean().await;
    platform.stop().await;
}
