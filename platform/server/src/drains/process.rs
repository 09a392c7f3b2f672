//! What extensions make of a batch, and what their failure does to it.

use async_trait::async_trait;
use berth_model::drain::{Entry, Format, SinkKind, framed};
use berth_model::extension::ExtensionId;

/// What a processor gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Processed {
    /// Lines, for the next processor or the host's own form.
    Entries(Vec<Entry>),
    /// Messages in their final form.
    Frames(Vec<Vec<u8>>),
}

/// A processor did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProcessorFailure {
    /// Which one, and why.
    pub message: String,
    /// Whether the batch goes on without it; it is dropped otherwise.
    pub open: bool,
}

/// Calls extensions of the kind `log-processor`.
#[async_trait]
pub trait Processors: Send + Sync + 'static {
    /// Has one extension change a batch.
    ///
    /// # Errors
    /// It is not there, failed, or is not called for now; the failure says what becomes of the batch.
    async fn process(
        &self,
        id: &ExtensionId,
        batch: Vec<Entry>,
    ) -> Result<Processed, ProcessorFailure>;
}

/// Where there are no extensions: every processor is missing, and its lines are kept back from the
/// sink, as one of them may have been there to hide something.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProcessors;

#[async_trait]
impl Processors for NoProcessors {
    async fn process(
        &self,
        id: &ExtensionId,
        _: Vec<Entry>,
    ) -> Result<Processed, ProcessorFailure> {
        let message = format!("the extension {id} is not installed");
        Err(ProcessorFailure { message, open: false })
    }
}

/// A batch on its way out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Messages {
    /// As they stand in the sink's stream.
    pub(super) frames: Vec<Vec<u8>>,
    /// Lines that no message came of because of a failure.
    pub(super) dropped: u64,
    /// Lines that a failed processor did not see.
    pub(super) unprocessed: u64,
    /// What failed.
    pub(super) error: Option<String>,
}

/// Passes a batch through the processors and gives it the form of the sink.
pub(super) async fn messages(
    processors: &dyn Processors,
    chain: &[ExtensionId],
    kind: SinkKind,
    host: &str,
    mut batch: Vec<Entry>,
) -> Messages {
    let mut done = Messages::default();
    for (index, id) in chain.iter().enumerate() {
        if batch.is_empty() {
            break;
        }
        let lines = batch.len() as u64;
        match processors.process(id, batch.clone()).await {
            Ok(Processed::Entries(entries)) => batch = entries,
            Ok(Processed::Frames(frames)) if index + 1 == chain.len() => {
                return framed_all(kind, frames.iter().map(Vec::as_slice), done);
            }
            Ok(Processed::Frames(_)) => {
                done.error = Some(format!("{id} gave messages, and is not the last processor"));
                done.dropped += lines;
                return done;
            }
            Err(failure) => {
                done.error = Some(failure.message);
                if !failure.open {
                    done.dropped += lines;
                    return done;
                }
                done.unprocessed += lines;
            }
        }
    }
    let format = Format::of(kind);
    let own: Vec<Vec<u8>> = batch.iter().map(|entry| format.message(entry, host)).collect();
    framed_all(kind, own.iter().map(Vec::as_slice), done)
}

fn framed_all<'a>(
    kind: SinkKind,
    messages: impl Iterator<Item = &'a [u8]>,
    mut done: Messages,
) -> Messages {
    for message in messages {
        match framed(kind, message) {
            Ok(frame) => done.frames.push(frame),
            Err(error) => {
                done.dropped += 1;
                done.error = Some(error.to_string());
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes lines, gives frames, or fails, as its name says.
    struct ByName;

    #[async_trait]
    impl Processors for ByName {
        async fn process(
            &self,
            id: &ExtensionId,
            mut batch: Vec<Entry>,
        ) -> Result<Processed, ProcessorFailure> {
            match id.as_str() {
                "t.upper" => {
                    batch.iter_mut().for_each(|entry| entry.line = entry.line.to_uppercase());
                    Ok(Processed::Entries(batch))
                }
                "t.frames" => Ok(Processed::Frames(vec![b"one".to_vec(), Vec::new()])),
                other => Err(ProcessorFailure {
                    message: format!("{other} failed"),
                    open: other == "t.open",
                }),
            }
        }
    }

    async fn through(chain: &[&str]) -> Messages {
        let entry = Entry {
            app: "a".into(),
            process: "web".into(),
            instance: "web.1".into(),
            stream: "stdout".into(),
            at_ns: 0,
            seq: 1,
            line: "secret".into(),
            partial: false,
            extra: Vec::new(),
        };
        let chain: Vec<ExtensionId> = chain.iter().map(|id| id.parse().unwrap()).collect();
        messages(&ByName, &chain, SinkKind::Https, "h", vec![entry]).await
    }

    #[tokio::test]
    async fn a_batch_goes_through_every_processor_and_has_the_form_of_the_sink() {
        let done = through(&["t.upper"]).await;
        assert_eq!((done.dropped, done.unprocessed, done.error), (0, 0, None));
        assert!(String::from_utf8_lossy(&done.frames[0]).contains("SECRET"));
        let done = through(&["t.upper", "t.frames"]).await;
        assert_eq!(done.frames, [b"one\n"]);
        assert_eq!(done.dropped, 1, "an empty message");
    }

    #[tokio::test]
    async fn a_batch_passes_a_processor_that_fails_open_and_is_counted() {
        let done = through(&["t.open", "t.upper"]).await;
        assert_eq!((done.dropped, done.unprocessed), (0, 1));
        assert!(String::from_utf8_lossy(&done.frames[0]).contains("SECRET"));
        assert_eq!(done.error.as_deref(), Some("t.open failed"));
    }

    #[tokio::test]
    async fn a_batch_never_passes_a_processor_that_fails_closed() {
        for chain in [&["t.closed"][..], &["t.closed", "t.upper"], &["t.frames", "t.upper"]] {
            let done = through(chain).await;
            assert_eq!((done.frames.len(), done.dropped), (0, 1), "{chain:?}");
            assert!(done.error.is_some());
        }
        let missing = NoProcessors.process(&"a.b".parse().unwrap(), Vec::new()).await.unwrap_err();
        assert!(!missing.open);
    }
}
