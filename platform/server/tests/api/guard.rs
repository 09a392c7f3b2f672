//! What every request passes, and how requests are refused.

use reqwest::header::{CONTENT_TYPE, HOST};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Api;

#[tokio::test]
async fn only_the_servers_own_names_are_answered() {
    let api = Api::start().await;
    let port = api.address.port();
    for (host, expected) in [
        ("localhost".to_owned(), 200),
        (format!("127.0.0.1:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        ("api.example.org".to_owned(), 200),
        ("evil.example".to_owned(), 421),
        ("127.0.0.1.evil.example".to_owned(), 421),
        ("localhost@evil.example".to_owned(), 421),
        (String::new(), 421),
    ] {
        for path in ["/healthz", "/v1/openapi.json", "/v1/me", "/v1/nothing"] {
            let answer =
                api.request("admin", "GET", path).header(HOST, &host).send().await.unwrap();
            let expected = if path == "/v1/nothing" && expected == 200 { 404 } else { expected };
            assert_eq!(answer.status().as_u16(), expected, "{host:?} {path}");
        }
    }
}

async fn raw(api: &Api, request: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(api.address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn two_hosts_or_none_or_two_that_differ_are_not_answered() {
    let api = Api::start().await;
    for head in [
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
        "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n",
        "GET /healthz HTTP/1.0\r\n",
    ] {
        let answer = raw(&api, &format!("{head}Connection: close\r\n\r\n")).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["421", "400"].contains(&status), "{head} {answer}");
    }
}

#[tokio::test]
async fn a_refusal_is_a_problem_document_with_the_requests_id() {
    let api = Api::start().await;
    let answer = api.request("nobody", "GET", "/v1/apps").send().await.unwrap();
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
    assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"berth\"");
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["instance"], json!(id));
    assert_eq!((&problem["type"], &problem["status"]), (&json!("unauthorized"), &json!(401)));
}

#[tokio::test]
async fn wrong_tokens_of_every_form_are_refused() {
    let api = Api::start().await;
    let good = &api.tokens["admin"];
    for value in [
        "Bearer berth_0000".to_owned(),
        format!("Basic {good}"),
        format!("Bearer {good}x"),
        format!("Bearer {}", good.to_uppercase()),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}", "x".repeat(10_000)),
        "Bearer ' OR 1=1 --".to_owned(),
    ] {
        let request = api.request("nobody", "GET", "/v1/me").header("authorization", &value);
        assert_eq!(request.send().await.unwrap().status(), 401, "{value}");
    }
    let request =
        api.request("nobody", "GET", "/v1/me").header("authorization", format!("bearer {good}"));
    assert_eq!(request.send().await.unwrap().status(), 200, "the scheme has no case");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_where_it_is() {
    let api = Api::start().await;
    for (method, path, body, status, pointer) in [
        ("POST", "/v1/apps", json!({"name": "Not A Name"}), 422, "/name"),
        ("POST", "/v1/apps", json!({"name": "ok", "tema": "x"}), 422, "/tema"),
        ("POST", "/v1/apps", json!({"name": 1}), 422, "/name"),
        ("POST", "/v1/apps", json!({}), 422, ""),
        ("PUT", "/v1/apps/hello/scale", json!({"processes": {"web": -1}}), 422, "/processes/web"),
        ("PUT", "/v1/apps/hello/scale", json!({"processes": {"web": 101}}), 422, "/processes/web"),
        ("PUT", "/v1/apps/hello/scale", json!({"processes": {"wbe": 1}}), 422, "/processes/wbe"),
        (
            "PATCH",
            "/v1/apps/hello/config",
            json!({"variables": {"A-B": "x"}}),
            422,
            "/variables/A-B",
        ),
        (
            "PATCH",
            "/v1/apps/hello/config",
            json!({"variables": {"PORT": "1"}}),
            422,
            "/variables/PORT",
        ),
        ("POST", "/v1/apps/hello/domains", json!({"domain": "x.localhost"}), 422, "/domain"),
        ("POST", "/v1/apps/hello/runs", json!({"command": []}), 422, "/command"),
        (
            "POST",
            "/v1/apps/hello/runs",
            json!({"command": ["x"], "timeout_s": 0}),
            422,
            "/timeout_s",
        ),
        ("POST", "/v1/tokens", json!({"name": "x", "role": "king"}), 422, "/role"),
        ("POST", "/v1/tokens", json!({"name": "a\nb", "role": "viewer"}), 422, "/name"),
        (
            "POST",
            "/v1/tokens",
            json!({"name": "x", "role": "viewer", "expires_days": 0}),
            422,
            "/expires_days",
        ),
        (
            "POST",
            "/v1/keys",
            json!({"name": "x", "role": "viewer", "public_key": "ssh-dss AAAA"}),
            422,
            "/public_key",
        ),
    ] {
        let (found, problem) = api.call("admin", method, path, Some(body.clone())).await;
        assert_eq!(found.as_u16(), status, "{method} {path} {body}: {problem}");
        assert_eq!(
            problem["errors"][0]["pointer"],
            json!(pointer),
            "{method} {path} {body}: {problem}"
        );
    }
}

#[tokio::test]
async fn requests_that_are_none_of_this_api_are_refused() {
    let api = Api::start().await;
    for (method, path, status) in [
        ("GET", "/v2/apps", 404),
        ("PUT", "/v1/apps", 405),
        ("GET", "/v1/apps?limit=0", 422),
        ("GET", "/v1/apps?limit=x", 400),
        ("GET", "/v1/apps?page_token=nonsense", 422),
        ("GET", "/v1/apps?unknown=1", 400),
        ("GET", "/v1/apps/..%2f..%2fetc", 404),
        ("GET", "/v1/apps/%ff", 404),
        ("GET", "/v1/apps/hello/releases/99999999999999999999", 404),
        ("GET", "/v1/apps/hello/releases/18446744073709551615", 404),
        ("GET", "/v1/apps/hello/builds/bld_x", 404),
        ("GET", "/v1/apps/hello/log?lines=10001", 422),
        ("POST", "/v1/down?grace_ms=600001", 422),
    ] {
        let (found, problem) = api.call("admin", method, path, None).await;
        assert_eq!(found.as_u16(), status, "{method} {path}: {problem}");
        assert_eq!(problem["status"], json!(status), "{method} {path}: {problem}");
    }
    let send = |body: Vec<u8>, kind: &'static str| {
        api.request("admin", "POST", "/v1/apps").header(CONTENT_TYPE, kind).body(body).send()
    };
    assert_eq!(send(b"{}".to_vec(), "text/plain").await.unwrap().status(), 415);
    assert_eq!(send(b"{".to_vec(), "application/json").await.unwrap().status(), 400);
    assert_eq!(send(vec![b' '; 1 << 21], "application/json").await.unwrap().status(), 413);
}
