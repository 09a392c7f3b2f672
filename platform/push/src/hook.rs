//! The conversation with git's `proc-receive` hook (githooks, "proc-receive").
//!
//! The hook is a relay: what git says to it arrives here as it is, what we send is framed as
//! {channel u8: 1 stdout, 2 stderr, 3 exit code; length u32 big endian; bytes}. The other end is a
//! tool that read hostile input, so everything it says is bounded and checked again.

use std::io;

use berth_model::text::printable;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::commands::{Command, Verdict};
use crate::pkt::{self, Pkt};

/// Commands that are read at all; far above what is allowed, so that too many get an answer each.
const COMMANDS_MAX: usize = 4096;
/// Bytes of a reason that git shows in one line.
const REASON_BYTES_MAX: usize = 200;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXIT: u8 = 3;

/// What git hands over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) commands: Vec<Command>,
    /// All of them, or none.
    pub(crate) atomic: bool,
}

/// Reads git's greeting, answers it, and reads the commands. `None`: git ended without running
/// the hook, because there was nothing to decide or the pack was refused.
pub(crate) async fn hear(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    started: impl FnOnce(),
) -> io::Result<Option<Request>> {
    let Some(greeting) = pkt::read(reader).await? else { return Ok(None) };
    started();
    let Pkt::Line(greeting) = greeting else { return Err(wrong("no greeting")) };
    let mut parts = greeting.splitn(2, |b| *b == 0);
    if parts.next() != Some(b"version=1") {
        return Err(wrong("another version of the hook protocol"));
    }
    let features = parts.next().unwrap_or_default();
    let atomic = features.split(|b| *b == b' ').any(|feature| feature == b"atomic");
    if pkt::read(reader).await? != Some(Pkt::Flush) {
        return Err(wrong("more than one line of greeting"));
    }
    // Push options are not asked for: nothing here reads them.
    let answer = if atomic { &b"version=1\0atomic"[..] } else { b"version=1" };
    say(writer, STDOUT, &[pkt::line(answer), b"0000".to_vec()].concat()).await?;
    let mut commands = Vec::new();
    loop {
        match pkt::read(reader).await? {
            Some(Pkt::Line(line)) if commands.len() < COMMANDS_MAX => {
                let Some(command) = Command::parse(&line) else {
                    let why = "The name of a ref that is pushed is not text, or has spaces or control characters in it. Rename it and push again.";
                    return Err(refuse(writer, why, "a broken command").await);
                };
                commands.push(command);
            }
            Some(Pkt::Line(_)) => {
                let why = format!(
                    "This push updates more than {COMMANDS_MAX} refs, which is more than Berth reads. Push the branch that you want to deploy: git push berth HEAD:main"
                );
                return Err(refuse(writer, &why, "too many commands").await);
            }
            Some(Pkt::Flush) => return Ok(Some(Request { commands, atomic })),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Ends a hook that cannot be answered command by command, with a reason for whoever pushes.
async fn refuse(
    writer: &mut (impl AsyncWrite + Unpin),
    why: &str,
    what: &'static str,
) -> io::Error {
    let told = async {
        tell(writer, &format!(" !     {why}")).await?;
        say(writer, EXIT, &[1]).await?;
        writer.flush().await
    };
    // A hook that has gone hears nothing, which is no worse.
    told.await.err().unwrap_or_else(|| wrong(what))
}

/// A line of text for whoever pushes, through git's side band.
pub(crate) async fn tell(writer: &mut (impl AsyncWrite + Unpin), line: &str) -> io::Result<()> {
    say(writer, STDERR, format!("{line}\n").as_bytes()).await
}

/// Reports a verdict for each command, in their order, and ends the hook.
pub(crate) async fn report(
    writer: &mut (impl AsyncWrite + Unpin),
    commands: &[Command],
    verdicts: &[Verdict],
) -> io::Result<()> {
    let mut answer = Vec::new();
    let mut add = |text: String| answer.extend_from_slice(&pkt::line(text.as_bytes()));
    for (command, verdict) in commands.iter().zip(verdicts) {
        match verdict {
            Verdict::Moved(None) => add(format!("ok {}", command.name)),
            Verdict::Moved(Some(other)) => {
                add(format!("ok {}", command.name));
                if let Some(old) = command.old {
                    add(format!("option old-oid {old}"));
                }
                add(format!("option new-oid {other}"));
            }
            Verdict::Refused(reason) => {
                add(format!("ng {} {}", command.name, short(reason)));
            }
        }
    }
    answer.extend_from_slice(b"0000");
    for piece in answer.chunks(32 << 10) {
        say(writer, STDOUT, piece).await?;
    }
    say(writer, EXIT, &[0]).await?;
    writer.flush().await
}

/// Waits until the hook's end of the connection is closed.
pub(crate) async fn gone(reader: &mut (impl AsyncRead + Unpin)) {
    let mut byte = [0];
    while matches!(reader.read(&mut byte).await, Ok(1)) {}
}

async fn say(writer: &mut (impl AsyncWrite + Unpin), channel: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| wrong("a frame over 4 GiB"))?;
    let mut frame = Vec::with_capacity(bytes.len() + 5);
    frame.push(channel);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);
    writer.write_all(&frame).await
}

/// One line that git prints in parentheses behind the ref.
fn short(reason: &str) -> String {
    let line = printable(reason.lines().next().unwrap_or_default(), REASON_BYTES_MAX);
    if line.is_empty() { "refused".to_owned() } else { line }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";

    fn session(lines: &[&[u8]]) -> Vec<u8> {
        lines
            .iter()
            .flat_map(|l| if l.is_empty() { b"0000".to_vec() } else { pkt::line(l) })
            .collect()
    }

    #[tokio::test]
    async fn a_session_is_heard_and_answered() {
        let command = format!("{OLD} {NEW} refs/heads/main");
        let said = session(&[b"version=1\0push-options atomic", b"", command.as_bytes(), b""]);
        let mut written = Vec::new();
        let mut started = false;
        let heard = hear(&mut said.as_slice(), &mut written, || started = true).await.unwrap();
        let heard = heard.unwrap();
        assert!(started && heard.atomic);
        assert_eq!(heard.commands[0].branch(), Some("main"));
        assert_eq!(written, b"\x01\0\0\0\x180014version=1\0atomic0000");

        written.clear();
        let verdicts = [Verdict::refused("build failed\nwith details")];
        report(&mut written, &heard.commands, &verdicts).await.unwrap();
        let text = String::from_utf8_lossy(&written);
        assert!(text.contains("ng refs/heads/main build failed"), "{text:?}");
        assert!(!text.contains("details"), "{text:?}");
        assert!(written.ends_with(b"\x03\0\0\0\x01\0"));
    }

    #[tokio::test]
    async fn an_end_without_a_word_is_no_request() {
        let heard = hear(&mut &b""[..], &mut Vec::new(), || ()).await.unwrap();
        assert_eq!(heard, None);
    }

    #[tokio::test]
    async fn commands_that_cannot_be_answered_one_by_one_end_the_push_with_a_reason() {
        let odd = format!("{OLD} {NEW} refs/heads/\u{1b}[31m");
        let mut many = session(&[b"version=1", b""]);
        for n in 0..=COMMANDS_MAX {
            many.extend(pkt::line(format!("{OLD} {NEW} refs/heads/{n}").as_bytes()));
        }
        let odd = session(&[b"version=1", b"", odd.as_bytes(), b""]);
        for (said, reason) in [(odd, "control characters"), (many, "more than 4096 refs")] {
            let mut written = Vec::new();
            assert!(hear(&mut said.as_slice(), &mut written, || ()).await.is_err());
            let text = String::from_utf8_lossy(&written);
            assert!(text.contains(reason), "{text:?}");
            assert!(written.ends_with(b"\x03\0\0\0\x01\x01"), "{text:?}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_an_error() {
        let endless: Vec<u8> = {
            let mut said = session(&[b"version=1", b""]);
            for _ in 0..5000 {
                said.extend(pkt::line(format!("{OLD} {NEW} refs/heads/main").as_bytes()));
            }
            said
        };
        for said in [
            session(&[b"version=2", b""]),
            session(&[b""]),
            session(&[b"version=1", b"", b"what", b""]),
            session(&[b"version=1", b""]),
            b"garbage".to_vec(),
            endless,
        ] {
            assert!(hear(&mut said.as_slice(), &mut Vec::new(), || ()).await.is_err());
        }
    }
}
