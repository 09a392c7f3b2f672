//! A terminal, or plain streams, on a command that runs elsewhere.
//!
//! The WebSocket's frames are those of the API: binary frames begin with 0 (stdin), 1 (stdout) or
//! 2 (stderr), text frames are JSON.

use std::io::{IsTerminal, Write};

use futures_util::{SinkExt, StreamExt};
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::Client;
use crate::failure::Failure;

/// Whether the command should get a terminal: both ends of ours are one.
pub(crate) fn wants_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Rows and columns of our terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Keystrokes go to the command as they are; dropping it gives the terminal back.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = termios::tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Attaches to `path` until the command ends, and gives its exit code.
pub(crate) async fn attach(client: &Client, path: &str, terminal: bool) -> Result<i32, Failure> {
    let lost = |error: Error| {
        Failure::unreachable(format!("the connection to the command was lost: {error}"))
    };
    let url = format!("{}{path}", client.server().replacen("http", "ws", 1));
    let mut request = url.into_client_request().map_err(lost)?;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", client.token()))
        .map_err(|_| Failure::usage("the token holds characters that no token has"))?;
    request.headers_mut().insert("authorization", bearer);
    let (socket, _) = match tokio_tungstenite::connect_async(request).await {
        Ok(connected) => connected,
        Err(Error::Http(answer)) => return Err(refused(answer.body().as_deref())),
        Err(error) => return Err(lost(error)),
    };
    let (mut to_server, mut from_server) = socket.split();
    let raw = if terminal { Raw::enter() } else { None };
    let mut resized =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change())?;
    // Only a thread can wait for keystrokes; it is left behind when the command ends first.
    let (send_input, mut input) = tokio::sync::mpsc::channel::<Vec<u8>>(8);
    tokio::spawn(async move {
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count) = stdin.read(&mut buffer).await {
            if send_input.send(buffer[..count].to_vec()).await.is_err() || count == 0 {
                return;
            }
        }
    });
    let mut input_open = true;
    loop {
        tokio::select! {
            bytes = input.recv(), if input_open => {
                let message = match bytes {
                    Some(bytes) if !bytes.is_empty() => Message::binary([&[0], bytes.as_slice()].concat()),
                    _ => {
                        input_open = false;
                        Message::text(r#"{"eof":true}"#)
                    }
                };
                to_server.send(message).await.map_err(lost)?;
            }
            _ = resized.recv(), if terminal => {
                if let Some((rows, columns)) = size() {
                    let text = format!(r#"{{"resize":{{"rows":{rows},"columns":{columns}}}}}"#);
                    to_server.send(Message::text(text)).await.map_err(lost)?;
                }
            }
            message = from_server.next() => match message {
                Some(Ok(Message::Binary(bytes))) => show(&bytes)?,
                Some(Ok(Message::Text(text))) => {
                    if let Some(code) = exit_code(&text)? {
                        drop(raw);
                        return Ok(code);
                    }
                }
                Some(Ok(Message::Close(_))) | None => {
                    return Err(Failure::unreachable("the platform closed the connection before the command ended"));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
            },
        }
    }
}

fn refused(body: Option<&[u8]>) -> Failure {
    match serde_json::from_slice(body.unwrap_or_default()) {
        Ok(problem) => Failure::problem(&problem),
        Err(_) => Failure::failed("the platform refused to attach"),
    }
}

fn show(bytes: &[u8]) -> Result<(), Failure> {
    match bytes.split_first() {
        Some((1, text)) => {
            let mut out = std::io::stdout().lock();
            out.write_all(text).and_then(|()| out.flush())?;
        }
        Some((2, text)) => std::io::stderr().write_all(text)?,
        _ => {}
    }
    Ok(())
}

/// The exit code in a text frame; an error frame is an error.
fn exit_code(text: &str) -> Result<Option<i32>, Failure> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_| {
        Failure::failed("the platform sent a message that this version does not understand")
    })?;
    if let Some(message) = value["error"].as_str() {
        return Err(Failure::failed(message));
    }
    if value["exit"]["oom"] == true {
        let _ = writeln!(
            std::io::stderr(),
            "the command was ended: it used all the memory it may have"
        );
    }
    if value["exit"]["timed_out"] == true {
        let _ = writeln!(std::io::stderr(), "the command was ended: its time was over");
    }
    Ok(value["exit"]["code"].as_i64().and_then(|code| i32::try_from(code).ok()))
}
