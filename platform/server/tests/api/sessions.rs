//! Sessions over WebSockets.

use std::time::Duration;

use berth_model::Role;
use berth_model::plan::Change;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{Api, by, new_token};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(api: &Api, path: &str) -> Result<Socket, Box<Error>> {
    connect_with(api, &api.tokens["developer"], path).await
}

async fn connect_with(api: &Api, token: &str, path: &str) -> Result<Socket, Box<Error>> {
    let mut request = format!("ws://{}{path}", api.address).into_client_request().unwrap();
    let bearer = format!("Bearer {token}");
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket).map_err(Box::new)
}

async fn next(socket: &mut Socket) -> Option<Message> {
    let next = tokio::time::timeout(Duration::from_secs(10), socket.next());
    next.await.expect("a message").map(|message| message.unwrap())
}

#[tokio::test]
async fn a_session_carries_both_ways_and_ends_with_the_exit_code() {
    let api = Api::start().await;
    let path = format!("/v1/apps/hello/instances/{}/exec?command=cat&command=-u", api.instance.id);
    let mut socket = connect(&api, &path).await.unwrap();
    assert!(api.rooms.was_asked(r#"exec web.1 ["cat", "-u"] false"#));
    socket.send(Message::binary(&b"\0hello"[..])).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::binary(&b"\x01hello"[..])));
    assert_eq!(next(&mut socket).await, Some(Message::binary(&b"\x02HELLO"[..])));
    socket.send(Message::text(r#"{"resize":{"rows":24,"columns":80}}"#)).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::binary(&b"\x0124x80"[..])));
    socket.send(Message::text(r#"{"eof":true}"#)).await.unwrap();
    let exit = r#"{"exit":{"code":3,"oom":false,"timed_out":false}}"#;
    assert_eq!(next(&mut socket).await, Some(Message::text(exit)));
    assert!(matches!(next(&mut socket).await, Some(Message::Close(_))));
}

#[tokio::test]
async fn more_than_fits_between_goes_through_without_a_standstill() {
    let api = Api::start().await;
    let socket =
        connect(&api, &format!("/v1/apps/hello/runs/{}/attach", api.run.id)).await.unwrap();
    let (mut to, mut from) = socket.split();
    let block = [&[0_u8][..], &[b'x'; 64 * 1024]].concat();
    let sending = tokio::spawn(async move {
        for _ in 0..100 {
            to.send(Message::binary(block.clone())).await.unwrap();
        }
        to.send(Message::text(r#"{"eof":true}"#)).await.unwrap();
    });
    let mut bytes = 0;
    while let Some(message) =
        tokio::time::timeout(Duration::from_secs(10), from.next()).await.unwrap()
    {
        match message.unwrap() {
            Message::Binary(block) => bytes += block.len() - 1,
            Message::Text(_) => break,
            _ => {}
        }
    }
    assert_eq!(bytes, 2 * 100 * 64 * 1024);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_ends_its_command() {
    let api = Api::start().await;
    let mut ended = api.rooms.ended.subscribe();
    let path = format!("/v1/apps/hello/runs/{}/attach", api.run.id);
    drop(connect(&api, &path).await.unwrap());
    let wait = ended.wait_for(|count| *count == 1);
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_another_tokens_goes_on() {
    let api = Api::start().await;
    let exec = format!("/v1/apps/hello/instances/{}/exec?command=cat", api.instance.id);
    let attach = format!("/v1/apps/hello/runs/{}/attach", api.run.id);
    let team = api.app.team;
    for path in [exec, attach] {
        let (id, secret) = new_token(&api.store, &path, team, Role::Developer).await;
        let mut ended = api.rooms.ended.subscribe();
        let before = *ended.borrow();
        let mut revoked = connect_with(&api, &secret, &path).await.unwrap();
        let mut other = connect(&api, &path).await.unwrap();
        // An event that is no business of the token's ends nothing.
        api.store.change(Some(api.app.id), &Change::Restart, None, &by()).await.unwrap();
        revoked.send(Message::binary(&b"\0here"[..])).await.unwrap();
        assert_eq!(next(&mut revoked).await, Some(Message::binary(&b"\x01here"[..])));
        assert_eq!(next(&mut revoked).await, Some(Message::binary(&b"\x02HERE"[..])));

        api.must("owner", "DELETE", &format!("/v1/tokens/{id}"), None).await;
        let Some(Message::Close(Some(frame))) = next(&mut revoked).await else {
            panic!("{path}: not closed")
        };
        assert_eq!(u16::from(frame.code), 1008);
        assert_eq!(frame.reason.as_str(), "the token is no longer valid");
        let wait = ended.wait_for(|count| *count == before + 1);
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap().unwrap();
        other.send(Message::binary(&b"\0on"[..])).await.unwrap();
        assert_eq!(next(&mut other).await, Some(Message::binary(&b"\x01on"[..])));
        drop(other);
        let wait = ended.wait_for(|count| *count == before + 2);
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_message_of_another_form_ends_the_session() {
    let api = Api::start().await;
    let path = format!("/v1/apps/hello/runs/{}/attach", api.run.id);
    for message in [
        Message::binary(&b"\x01x"[..]),
        Message::binary(Vec::new()),
        Message::text("hello"),
        Message::text(r#"{"resize":{"rows":0,"columns":80}}"#),
        Message::binary(vec![0; 300 * 1024]),
    ] {
        let mut ended = api.rooms.ended.subscribe();
        let before = *ended.borrow();
        let mut socket = connect(&api, &path).await.unwrap();
        let _ = socket.send(message).await;
        let wait = ended.wait_for(|count| *count > before);
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_is_refused_is_refused_before_the_upgrade() {
    let api = Api::start().await;
    let exec = format!("/v1/apps/hello/instances/{}/exec", api.instance.id);
    for (path, status, text) in [
        (format!("{exec}?command=refused"), 409, "the instance is going"),
        (format!("{exec}?command="), 422, "give a command"),
        (format!("{exec}?command=a&rows=1"), 422, "rows and columns"),
        ("/v1/apps/hello/runs/ins_0/attach".to_owned(), 404, "there is no instance"),
        (format!("/v1/apps/hello/runs/{}/attach", api.instance.id), 404, "there is no run"),
    ] {
        let Err(error) = connect(&api, &path).await else { panic!("{path}") };
        let Error::Http(answer) = *error else { panic!("{path}: {error}") };
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let body = String::from_utf8(answer.into_body().unwrap_or_default()).unwrap();
        assert!(body.contains(text), "{path}: {body}");
    }
    let (status, _) = api.call("developer", "GET", &format!("{exec}?command=ls"), None).await;
    assert_eq!(status, 426);
}
