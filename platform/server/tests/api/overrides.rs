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

#[tokio::test]
async fn a_plan_says_which_policy_would_refuse_it_and_overrides_nothing() {
    let api = Api::start().await;
    let plan = json!({"change": "scale", "processes": {"web": 3}});
    let path = "/v1/apps/hello/plan";
    let planned = api.must("viewer", "POST", path, Some(plan.clone())).await;
    assert_eq!(planned["denied"], Value::Null);
    let denial = "acme.rules does not allow it: not today";
    *api.rooms.denial.lock().unwrap() = Some(denial.to_owned());
    let request = api.request("owner", "POST", path).header("berth-override-policy", "urgent");
    let planned: Value = request.json(&plan).send().await.unwrap().json().await.unwrap();
    assert_eq!(planned["denied"], json!(denial));
    assert_eq!(planned["changes"], json!(["scale web from 1 to 3"]));
    assert!(api.rooms.overridden.lock().unwrap().is_empty());
}
