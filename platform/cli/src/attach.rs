//! A terminal, or plain streams, on a command that runs elsewhere.
//!
//! The WebSocket's frames are those of the API: binary frames begin with 0 (stdin), 1 (stdout) or
//! 2 (stderr), text frames are JSON. Both directions go on by themselves, so that a command that
//! writes while it is written to never waits for itself; each is bounded by what the other side
//! takes. Ending, however it comes about, gives the terminal back as it was.

use std::io::{IsTerminal, Write};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::Client;
use crate::failure::Failure;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Bytes of input in one frame.
const FRAME_BYTES: usize = 64 * 1024;
/// Frames of input that wait to be sent.
const FRAMES_WAITING_MAX: usize = 4;
/// What a shell reports of a program whose reader has gone: 128 + SIGPIPE.
const READER_GONE: i32 = 141;
/// What a shell reports of a program that these signals ended.
const HUNG_UP: i32 = 129;
const TERMINATED: i32 = 143;

/// Rows and columns.
type Size = (u16, u16);

/// Whether the command should get a terminal: both ends of ours are one.
pub(crate) fn wants_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Rows and columns of our terminal; one that does not know them (a serial line, some pipelines)
/// is taken for the size that every program expects.
pub(crate) fn size() -> Option<Size> {
    let size = termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some((or_usual(size.ws_row, 24), or_usual(size.ws_col, 80)))
}

fn or_usual(found: u16, usual: u16) -> u16 {
    if found == 0 { usual } else { found }
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
    let (to_server, from_server) = connect(client, path).await?.split();
    let _raw = if terminal { Raw::enter() } else { None };
    let (mut resized, mut terminated, mut hung_up) = (
        signal(SignalKind::window_change())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let (frames, waiting) = mpsc::channel(FRAMES_WAITING_MAX);
    let (sizes, newest_size) = watch::channel(None);
    tokio::spawn(send(to_server, waiting, newest_size));
    tokio::spawn(read_input(frames));
    let ended = receive(from_server);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            ended = &mut ended => return ended,
            _ = resized.recv(), if terminal => {
                sizes.send_replace(size());
            }
            // The connection's end is the command's end.
            _ = terminated.recv() => return Ok(TERMINATED),
            _ = hung_up.recv() => return Ok(HUNG_UP),
        }
    }
}

async fn connect(client: &Client, path: &str) -> Result<Socket, Failure> {
    let url = format!("{}{path}", client.server().replacen("http", "ws", 1));
    let mut request = url.into_client_request().map_err(|error| lost(&error))?;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", client.token()))
        .map_err(|_| Failure::usage("the token holds characters that no token has"))?;
    request.headers_mut().insert("authorization", bearer);
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => Err(refused(answer.body().as_deref())),
        Err(error) => Err(lost(&error)),
    }
}

fn lost(error: &Error) -> Failure {
    Failure::unreachable(format!("the connection to the command was lost: {error}"))
}

fn refused(body: Option<&[u8]>) -> Failure {
    match serde_json::from_slice(body.unwrap_or_default()) {
        Ok(problem) => Failure::problem(&problem),
        Err(_) => Failure::failed("the platform refused to attach"),
    }
}

/// Our input, in frames, to its end.
async fn read_input(frames: mpsc::Sender<Message>) {
    // Only a thread can wait for keystrokes; it is left behind when the command ends first.
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; FRAME_BYTES];
    while let Ok(count @ 1..) = stdin.read(&mut buffer).await {
        let frame = Message::binary([&[0], &buffer[..count]].concat());
        if frames.send(frame).await.is_err() {
            return;
        }
    }
    let _ = frames.send(Message::text(r#"{"eof":true}"#)).await;
}

/// Everything for the command. A connection that breaks is noticed where it is read.
async fn send(
    mut to_server: SplitSink<Socket, Message>,
    mut frames: mpsc::Receiver<Message>,
    mut sizes: watch::Receiver<Option<Size>>,
) {
    let mut input_open = true;
    loop {
        let message = tokio::select! {
            frame = frames.recv(), if input_open => match frame {
                Some(frame) => frame,
                None => {
                    input_open = false;
                    continue;
                }
            },
            changed = sizes.changed() => {
                if changed.is_err() {
                    return;
                }
                let Some((rows, columns)) = *sizes.borrow_and_update() else { continue };
                Message::text(format!(r#"{{"resize":{{"rows":{rows},"columns":{columns}}}}}"#))
            }
        };
        if to_server.send(message).await.is_err() {
            return;
        }
    }
}

/// Everything from the command, until it ends.
async fn receive(mut from_server: SplitStream<Socket>) -> Result<i32, Failure> {
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        match from_server.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                let shown = match bytes.split_first() {
                    Some((1, text)) => show(&mut out, text).await,
                    Some((2, text)) => show(&mut err, text).await,
                    _ => Ok(()),
                };
                match shown {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                        return Ok(READER_GONE);
                    }
                    other => other?,
                }
            }
            Some(Ok(Message::Text(text))) => {
                if let Some(code) = exit_code(&text)? {
                    return Ok(code);
                }
            }
            Some(Ok(Message::Close(_))) | None => {
                return Err(Failure::unreachable(
                    "the platform closed the connection before the command ended",
                ));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(lost(&error)),
        }
    }
}

async fn show(stream: &mut (impl AsyncWrite + Unpin), text: &[u8]) -> std::io::Result<()> {
    stream.write_all(text).await?;
    stream.flush().await
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
