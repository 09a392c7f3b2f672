//! What a middleware costs: the processor time of the router for each request, with one that
//! changes headers of requests and responses and without.

use std::path::Path;

use acceptance::Platform;
use acceptance::extensions::{api, install, plugin};
use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::json;

use super::{Size, name, process, wrk};
use crate::answer;
use crate::report::{Bound, Report};

/// The router is busy and does not wait, and nothing else is measured.
const CONNECTIONS: u32 = 4;

/// Loads an app without and one with the middleware, in turn.
///
/// # Errors
/// What the platform says.
pub(super) fn measure(report: &mut Report, platform: &Platform, size: &Size) -> Result<()> {
    let (plain, ruled) = (name(0), name(1));
    let rules = json!({
        "request": { "set": { "x-stage": "bench" }, "remove": ["x-debug"] },
        "response": { "set": { "x-frame-options": "DENY" }, "remove": ["server"] },
    });
    let id = install(platform, &plugin("header-rules"), &ruled, &rules);
    let host = format!("{ruled}.localhost");
    acceptance::wait_for("the middleware", 20, || {
        let answer = answer::get(platform.http, &host, "/").ok()?;
        answer.text.to_ascii_lowercase().contains("x-frame-options: deny").then_some(())
    });
    let router = process(&["berthd", " route ", &platform.data.display().to_string()])?;
    // Once each for nothing.
    for app in [&plain, &ruled] {
        cost_us(platform, &router, app, 1)?;
    }
    let (mut without, mut with, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        let bare = cost_us(platform, &router, &plain, size.load_s)?;
        let ruled = cost_us(platform, &router, &ruled, size.load_s)?;
        without.push(bare);
        with.push(ruled);
        more.push(ruled - bare);
    }
    let what =
        "header middleware: processor time of the router for a request, more than without it";
    report.bounded(what, "us", more, Bound::Mark(10.0));
    report.row("router's processor time for a request without middleware", "us", without);
    report.row("router's processor time for a request with it", "us", with);
    // What the router itself counts, of the calls alone; two for each request.
    let health = api(platform, Method::GET, &format!("/{id}"), None);
    let cpu_us = health["health"]["cpu_us"].as_f64().context("no processor time")?;
    let calls = health["health"]["calls"].as_object().context("no calls")?;
    let calls: f64 = calls.values().filter_map(serde_json::Value::as_f64).sum();
    report.detail(
        "of it in the two calls of the component, as the platform counts",
        "us",
        cpu_us / calls * 2.0,
    );
    api(platform, Method::DELETE, &format!("/{id}"), None);
    Ok(())
}

/// Processor time of the router for one request, microseconds.
fn cost_us(platform: &Platform, router: &Path, app: &str, seconds: u32) -> Result<f64> {
    let before = cpu_ns(router)?;
    let load = wrk::run(platform.http, &format!("{app}.localhost"), CONNECTIONS, seconds)?;
    Ok((cpu_ns(router)? - before) / load.requests / 1e3)
}

/// Processor time of all threads of a process, nanoseconds.
fn cpu_ns(process: &Path) -> Result<f64> {
    let mut sum = 0.0;
    for thread in std::fs::read_dir(process.join("task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().context("an empty schedstat")?;
        sum += first.parse::<f64>()?;
    }
    Ok(sum)
}
