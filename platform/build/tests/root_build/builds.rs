//! The sample apps, built as a push builds them.

use crate::platform::{Platform, Source};

#[tokio::test(flavor = "multi_thread")]
async fn a_static_site_is_served_by_nginx_from_its_own_layer() {
    let platform = Platform::start().await;
    let mut app = platform.app();
    let site = Source::sample("static-site");
    let first = platform.build(&mut app, &site).await;
    eprintln!("{}", first.log());
    let outcome = first.outcome();
    let names: Vec<&str> = outcome.output.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["stack", "static/conf", "static/nginx", "app"]);
    assert!(outcome.container_started);

    let second = platform.build(&mut app, &site.clone().edit("public/index.html", "moored", "anchored")).await;
    eprintln!("{}\n{:#?}", second.log(), second.outcome().times);
    assert!(!second.outcome().container_started);
    assert_eq!(second.outcome().output.layers[2], outcome.output.layers[2]);
    platform.stop().await;
}
