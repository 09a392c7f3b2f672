//! An alert is raised by what is really measured, and a hook tells it to others.

use acceptance::{Platform, wait_for};

use super::receiver::Receiver;
use super::{CONFIG, data, grant, hello, name_of, plugin, scene};

const URL: &str = "url=http://receiver.example:8080/berth";
const GRANT: &str = "\
events = { kinds = ['alert.raised', 'alert.cleared'] }
http = [{ host = 'receiver.example', methods = ['POST'], ports = [8080], private = true }]
";

#[test]
fn an_alert_of_an_app_under_load_reaches_a_webhook_and_so_does_its_end() {
    let scene = scene();
    let receiver = Receiver::start(&scene, 8080);
    let config = format!("{CONFIG}[measures]\nperiod_ms = 500\nkept_ms = 600000\n");
    let platform = Platform::start_with(&config);
    hello().deploy(&platform, "hello");
    let file = grant(GRANT);
    let install = ["ext", "install", &plugin("webhook"), "--set", URL, "--grant-file"];
    platform.must(&[&install[..], &[name_of(&file)]].concat());
    platform.must(&["alerts", "add", "requests", "above", "5", "--for", "1s", "--app", "hello"]);
    let other = ["alerts", "add", "error_ratio", "above", "0.5", "--app", "hello"];
    platform.must(&other);

    let listed = wait_for("an alert that is raised", 60, || {
        for _ in 0..20 {
            platform.get("hello", "/").unwrap();
        }
        let list = data(&platform, &["alerts", "list", "--app", "hello"]);
        let raised =
            list["items"].as_array().unwrap().iter().any(|one| !one["raised_at"].is_null());
        raised.then_some(list)
    });
    let raised = |one: &&serde_json::Value| !one["raised_at"].is_null();
    assert_eq!(listed["items"].as_array().unwrap().iter().filter(raised).count(), 1, "{listed}");
    let told = receiver.wait(1)[0].json();
    assert_eq!((&told["kind"], &told["payload"]["app"]), (&"alert.raised".into(), &"hello".into()));
    let after = &told["payload"]["after"];
    assert_eq!((&after["measure"], &after["comparison"]), (&"requests".into(), &"above".into()));
    assert_eq!(after["threshold"], 5.0);
    assert!(after["value"].as_f64().unwrap() > 5.0, "{told}");

    // Nobody asks any more.
    let told = receiver.wait(2)[1].json();
    assert_eq!(told["kind"], "alert.cleared");
    assert!(told["payload"]["after"]["value"].as_f64().unwrap() < 5.0, "{told}");
    let shown = platform.must(&["audit", "list", "--kind", "alert.*", "--all"]);
    assert!(shown.contains("alert: requests is"), "{shown}");
    assert!(shown.contains("alert is over: requests is"), "{shown}");
    let list = data(&platform, &["alerts", "list"]);
    for one in list["items"].as_array().unwrap() {
        assert!(one["raised_at"].is_null(), "{one}");
        platform.must(&["alerts", "remove", one["id"].as_str().unwrap()]);
    }
    assert!(platform.must(&["alerts"]).is_empty());
}
