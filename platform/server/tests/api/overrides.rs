//! Passing over a policy that says no.

use serde_json::{Value, json};

use crate::Api;

async fn scale(api: &Api, caller: &str, reason: Option<&str>) -> (u16, Value) {
    let mut request = api.request(caller, "PUT", "/v1/apps/hello/scale");
    if let Some(reason) = reason {
        request = request.header("berth-override-policy", reason.as_bytes());
    }
    let answer = request.json(&json!({"processes": {"web": 2}})).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn an_operator_overrides_a_policy_with_a_reason_and_a_developer_does_not() {
    let api = Api::start().await;
    *api.rooms.denial.lock().unwrap() = Some("acme.rules does not allow it: not today".to_owned());
    let generation =
        || async { api.must("viewer", "GET", "/v1/apps/hello", None).await["generation"].clone() };
    let before = generation().await;

    let (status, problem) = scale(&api, "owner", None).await;
    assert_eq!(
        (status, &problem["detail"]),
        (409, &json!("acme.rules does not allow it: not today"))
    );
    let (status, problem) = scale(&api, "developer", Some("it is urgent")).await;
    assert_eq!(status, 403, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("overriding a policy takes operator"));
    let (status, _) = scale(&api, "other", Some("it is urgent")).await;
    assert_eq!(status, 404, "another team's apps stay hidden");
    for empty in ["", "   "] {
        let (status, problem) = scale(&api, "owner", Some(empty)).await;
        assert_eq!(status, 400, "{problem}");
    }
    assert_eq!(generation().await, before);
    assert!(api.rooms.overridden.lock().unwrap().is_empty());

    let (status, answer) = scale(&api, "owner", Some(" the site is down: ä ")).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = scale(&api, "admin", Some("again")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(*api.rooms.overridden.lock().unwrap(), ["the site is down: ä", "again"]);
    assert_ne!(generation().await, before);
}

#[tokio::test]
async fn who_may_not_override_is_told_so_also_where_no_policy_says_no() {
    let api = Api::start().await;
    let (status, _) = scale(&api, "developer", Some("to be sure")).await;
    assert_eq!(status, 403);
    let (status, _) = scale(&api, "developer", None).await;
    assert_eq!(status, 200);
}
