//! What is measured of a real app under load: in numbers, as a table, for Prometheus, and after the
//! platform was killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use acceptance::{Platform, Repository, wait_for};
use serde_json::Value;

const CONFIG: &str = "\
[deploy]
monitor_ms = 300
drain_ms_max = 2000
[measures]
period_ms = 500
kept_ms = 600000
long_period_ms = 2000
long_kept_ms = 600000
";

fn data(platform: &Platform, arguments: &[&str]) -> Value {
    let text = platform.must(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap()
}

/// The values of a series that were measured.
fn values(measures: &Value, name: &str, of: &str) -> Vec<f64> {
    let series = measures["series"].as_array().unwrap().iter().find(|one| {
        let thing = one["instance"].as_str().or(one["process"].as_str()).unwrap_or("");
        one["name"] == name && thing == of
    });
    let found = series.map(|series| series["values"].as_array().unwrap().clone());
    found.unwrap_or_default().iter().filter_map(Value::as_f64).collect()
}

fn most(measures: &Value, name: &str, of: &str) -> f64 {
    values(measures, name, of).into_iter().fold(0.0, f64::max)
}

#[test]
fn an_app_under_load_sees_its_numbers_also_after_the_platform_was_killed() {
    let mut platform = Platform::start_with(CONFIG);
    Repository::of_sample("static-site").deploy(&platform, "shop");
    let stats = ["stats", "--app", "shop", "--since", "5m"];
    let under_load = wait_for("requests and what they take", 60, || {
        for _ in 0..30 {
            assert_eq!(platform.get("shop", "/").unwrap().0, 200);
        }
        assert_eq!(platform.get("shop", "/no-such-page").unwrap().0, 404);
        let measures = data(&platform, &stats);
        let enough = most(&measures, "requests", "") > 10.0
            && most(&measures, "requests_4xx", "") > 0.0
            && most(&measures, "cpu", "web.1") > 0.0
            && most(&measures, "network_out", "web.1") > 1000.0;
        enough.then_some(measures)
    });
    let points = under_load["timestamps"].as_array().unwrap().len();
    assert!(points <= 1000 && under_load["step_ms"] == 500, "{points}");
    for series in under_load["series"].as_array().unwrap() {
        assert_eq!(series["values"].as_array().unwrap().len(), points, "{series}");
    }
    assert!(most(&under_load, "memory", "web.1") > 256.0 * 1024.0);
    assert!(most(&under_load, "memory", "web.1") <= most(&under_load, "memory_limit", "web.1"));
    assert!(most(&under_load, "processes", "web.1") >= 1.0);
    assert_eq!(most(&under_load, "oom_kills", "web.1"), 0.0);
    let p50 = most(&under_load, "latency_p50", "");
    let p99 = most(&under_load, "latency_p99", "");
    assert!(0.0 < p50 && p50 <= p99 && p99 < 60_000.0, "{p50} {p99}");

    let host = data(&platform, &["stats", "--host"]);
    assert!(most(&host, "memory_total", "") > most(&host, "memory", ""));
    for program in ["control", "agent", "router"] {
        assert!(most(&host, "memory", program) > 1e6, "{program}: {host}");
    }

    let shown = platform.must(&stats);
    for word in ["MEASURE", "web.1", "latency_p95", "memory_limit"] {
        assert!(shown.contains(word), "{shown}");
    }

    // What was measured is there again; what came meanwhile is not told twice.
    let from = under_load["from"].as_str().unwrap().to_owned();
    platform.kill();
    platform.serve().unwrap();
    let since = ["stats", "--app", "shop", "--since", &from];
    let again = wait_for("measures after the restart", 30, || {
        let measures = data(&platform, &since);
        let grown = values(&measures, "memory", "web.1").len()
            > values(&under_load, "memory", "web.1").len() + 2;
        grown.then_some(measures)
    });
    assert!(most(&again, "requests", "") >= most(&under_load, "requests", ""));
    let total = |measures: &Value| values(measures, "requests", "").iter().sum::<f64>();
    let (before, after) = (total(&under_load), total(&again));
    assert!(after < before * 2.0 + 200.0, "{before} {after}");

    let metrics = wait_for("counters for Prometheus", 20, || {
        let address = format!("http://{}/metrics", platform.api);
        let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
        let text = client.get(address).bearer_auth(&platform.token).send().unwrap().text().unwrap();
        let line = "berth_http_requests_total{app=\"shop\",status=\"2xx\"} ";
        let count = text.lines().find_map(|own| own.strip_prefix(line))?.parse::<f64>().unwrap();
        (count >= 30.0).then_some(text)
    });
    assert!(
        metrics.contains("berth_instance_memory_bytes{app=\"shop\",process=\"web\""),
        "{metrics}"
    );
}
