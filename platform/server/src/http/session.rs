//! Carries a session between a WebSocket and a command.
//!
//! Both directions go on by themselves, so that a command that writes while it is written to never
//! waits for itself. A client that does not answer a ping is gone.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use berth_api::{Control, FRAME_STDERR, FRAME_STDIN, FRAME_STDOUT};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::actions::{Input, Output, Session};
use super::stream::Place;

/// Most bytes of one message of a client.
pub(super) const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// A ping is sent this often.
const PING: Duration = Duration::from_secs(30);
/// A client that sends nothing for this long, not even the answer to a ping, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// A client that takes nothing for this long is gone.
const SEND_MAX: Duration = Duration::from_secs(60);

type Sender = SplitSink<WebSocket, Message>;

/// Until the command ends, the client goes, or its token is not valid any more. Dropping the session
/// ends the command.
pub(super) async fn carry(socket: WebSocket, session: Session, mut place: Place) {
    let Session { input, output } = session;
    let (mut sender, receiver) = socket.split();
    tokio::select! {
        () = to_client(&mut sender, output) => return,
        () = from_client(receiver, input) => return,
        () = &mut place.revoked => {}
    }
    close(&mut sender, close_code::POLICY, "the token is no longer valid").await;
}

/// Ends when the client goes; the end of its input alone is none.
async fn from_client(mut client: SplitStream<WebSocket>, input: mpsc::Sender<Input>) {
    while let Ok(Some(Ok(message))) = timeout(SILENCE_MAX, client.next()).await {
        let message = match message {
            Message::Binary(bytes) => match bytes.first() {
                Some(&FRAME_STDIN) => Input::Bytes(bytes.slice(1..)),
                _ => return,
            },
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(Control::Resize(size)) if size.rows > 0 && size.columns > 0 => {
                    Input::Resize(size)
                }
                Ok(Control::Eof(true)) => Input::End,
                _ => return,
            },
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return,
        };
        // A command that ended takes nothing more, but what it wrote may still be on its way.
        let _ = input.send(message).await;
    }
}

/// Ends with the command's end.
async fn to_client(client: &mut Sender, mut output: mpsc::Receiver<Output>) {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    loop {
        let output = tokio::select! {
            output = output.recv() => output,
            _ = ping.tick() => {
                if !send(client, Message::Ping(Bytes::new())).await {
                    return;
                }
                continue;
            }
        };
        let last = match output {
            Some(Output::Stdout(bytes)) => {
                if !send(client, framed(FRAME_STDOUT, &bytes)).await {
                    return;
                }
                continue;
            }
            Some(Output::Stderr(bytes)) => {
                if !send(client, framed(FRAME_STDERR, &bytes)).await {
                    return;
                }
                continue;
            }
            Some(Output::Exit(exit)) => Control::Exit(exit),
            Some(Output::Error(text)) => Control::Error(text),
            None => Control::Error("the command was lost".to_owned()),
        };
        let text = serde_json::to_string(&last).unwrap_or_default();
        if send(client, Message::text(text)).await {
            close(client, close_code::NORMAL, "").await;
        }
        return;
    }
}

fn framed(stream: u8, bytes: &Bytes) -> Message {
    Message::binary([&[stream], bytes.as_ref()].concat())
}

async fn send(client: &mut Sender, message: Message) -> bool {
    matches!(timeout(SEND_MAX, client.send(message)).await, Ok(Ok(())))
}

async fn close(client: &mut Sender, code: u16, reason: &'static str) {
    send(client, Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}
