//! Measures and alerts through the API: what may be asked, and by whom.

use berth_model::alert::{ALERTS_OF_APP_MAX, Turn};
use serde_json::json;

use crate::{Api, by};

const MEASURES: &str = "/v1/apps/hello/measures";

#[tokio::test]
async fn a_span_has_its_points_also_where_nothing_is_kept() {
    let api = Api::start().await;
    let asked = format!("{MEASURES}?from=10m&step=30s&names=cpu,latency_p95");
    let found = api.must("viewer", "GET", &asked, None).await;
    assert_eq!((&found["step_ms"], &found["series"]), (&json!(30_000), &json!([])));
    let points = found["timestamps"].as_array().unwrap();
    // Steps begin at whole ones: the first and the last are cut by the ends.
    assert_eq!(points.len(), 21);
    assert_eq!(points[1].as_i64().unwrap() - points[0].as_i64().unwrap(), 30_000);
    let month = api.must("viewer", "GET", &format!("{MEASURES}?from=30d"), None).await;
    assert!(month["timestamps"].as_array().unwrap().len() <= 1000);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_what_can() {
    let api = Api::start().await;
    for (query, part) in [
        ("names=heat", "latency_p95"),
        ("names=load", "these are"),
        ("from=yesterday", "2026-01-31"),
        ("from=1h&to=2h", "before the end"),
        ("step=0s", "30s"),
        ("step=fast", "30s"),
    ] {
        let (status, problem) =
            api.call("viewer", "GET", &format!("{MEASURES}?{query}"), None).await;
        assert_eq!(status, 422, "{query}: {problem}");
        assert!(problem.to_string().contains(part), "{query}: {problem}");
    }
    let (status, _) = api.call("viewer", "GET", &format!("{MEASURES}?what=cpu"), None).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn an_alert_is_made_listed_raised_and_removed() {
    let api = Api::start().await;
    let body = json!({
        "app": "hello", "measure": "latency_p95", "comparison": "above", "value": 500, "for_s": 60,
    });
    let made = api.must("developer", "POST", "/v1/alerts", Some(body)).await;
    assert_eq!((&made["app"], &made["for_s"]), (&json!("hello"), &json!(60)));
    assert!(made["raised_at"].is_null());
    let id = made["id"].as_str().unwrap().to_owned();
    let alert = api.store.alert(id.parse().unwrap()).await.unwrap().unwrap();
    for _ in 0..2 {
        api.store.turn_alert(&alert, Turn::Raised, Some(612.5), None, &by()).await.unwrap();
    }
    let list = api.must("viewer", "GET", "/v1/alerts?app=hello", None).await;
    let found = list["items"].as_array().unwrap().iter().find(|one| one["id"] == id.as_str());
    assert!(found.unwrap()["raised_at"].is_string(), "{list}");
    let events = api.must("viewer", "GET", "/v1/events?kind=alert.raised", None).await;
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "told once: {events}");
    assert_eq!(events["items"][0]["after"]["value"], 612.5);
    let (status, _) = api.call("other", "DELETE", &format!("/v1/alerts/{id}"), None).await;
    assert_eq!(status, 404);
    let (status, _) = api.call("developer", "DELETE", &format!("/v1/alerts/{id}"), None).await;
    assert_eq!(status, 204);
}

#[tokio::test]
async fn an_alert_of_the_machine_is_the_administrators_alone() {
    let api = Api::start().await;
    let body = json!({"measure": "load", "comparison": "above", "value": 8});
    let (status, _) = api.call("owner", "POST", "/v1/alerts", Some(body.clone())).await;
    assert_eq!(status, 403);
    let made = api.must("admin", "POST", "/v1/alerts", Some(body)).await;
    let id = made["id"].as_str().unwrap();
    let seen = api.must("owner", "GET", "/v1/alerts", None).await;
    assert!(!seen.to_string().contains(id), "{seen}");
    let (status, _) = api.call("owner", "DELETE", &format!("/v1/alerts/{id}"), None).await;
    assert_eq!(status, 404);
    assert!(api.must("admin", "GET", "/v1/alerts", None).await.to_string().contains(id));
}

#[tokio::test]
async fn a_rule_that_cannot_be_is_refused_and_there_are_only_so_many() {
    let api = Api::start().await;
    let rule = json!({"app": "hello", "measure": "cpu", "comparison": "above", "value": 1});
    for (key, value, pointer) in [
        ("measure", json!("load"), "/measure"),
        ("measure", json!("counted"), "/measure"),
        ("comparison", json!("around"), "/comparison"),
        ("for_s", json!(86_401), "/for_s"),
    ] {
        let mut wrong = rule.clone();
        wrong[key] = value;
        let (status, problem) = api.call("developer", "POST", "/v1/alerts", Some(wrong)).await;
        assert_eq!(status, 422, "{problem}");
        assert!(problem.to_string().contains(pointer), "{problem}");
    }
    // One is there already.
    for _ in 1..ALERTS_OF_APP_MAX {
        api.must("developer", "POST", "/v1/alerts", Some(rule.clone())).await;
    }
    let (status, problem) = api.call("developer", "POST", "/v1/alerts", Some(rule)).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("remove one"), "{problem}");
}
