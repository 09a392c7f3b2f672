//! What extensions make of a batch, and what their failure does to it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use berth_model::AppId;
use berth_model::drain::{Entry, Format, SinkKind, framed};
use berth_model::extension::ExtensionId;

/// What one call of a processor takes, about: what its limits of time are made for.
const PART_BYTES: usize = 64 * 1024;

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
    /// Has one extension change a batch of an app's drain, or of one for every app.
    ///
    /// # Errors
    /// It is not there, failed, or is not called for now; the failure says what becomes of the batch.
    async fn process(
        &self,
        id: &ExtensionId,
        app: Option<AppId>,
        batch: &[Entry],
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
        _: Option<AppId>,
        _: &[Entry],
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

/// What stands between a drain's lines and its sink.
pub(super) struct Way<'a> {
    pub(super) processors: &'a dyn Processors,
    pub(super) app: Option<AppId>,
    /// In this order.
    pub(super) chain: &'a [ExtensionId],
    pub(super) kind: SinkKind,
    /// This machine's name.
    pub(super) host: &'a str,
}

impl Way<'_> {
    /// Passes a batch through the processors and gives it the form of the sink.
    pub(super) async fn messages(&self, batch: Vec<Entry>) -> Messages {
        let mut done = Messages::default();
        let parts = if self.chain.is_empty() { vec![batch] } else { parts(batch) };
        for part in parts {
            self.pass(part, &mut done).await;
        }
        done
    }

    async fn pass(&self, mut batch: Vec<Entry>, done: &mut Messages) {
        for (index, id) in self.chain.iter().enumerate() {
            if batch.is_empty() {
                return;
            }
            let lines = batch.len() as u64;
            match self.processors.process(id, self.app, &batch).await {
                Ok(Processed::Entries(entries)) => batch = entries,
                Ok(Processed::Frames(frames)) if index + 1 == self.chain.len() => {
                    framed_all(self.kind, frames.iter().map(Vec::as_slice), done);
                    return;
                }
                Ok(Processed::Frames(_)) => {
                    done.error = Some(format!("{id} gave messages, and is not the last processor"));
                    done.dropped += lines;
                    return;
                }
                Err(failure) => {
                    done.error = Some(failure.message);
                    if !failure.open {
                        done.dropped += lines;
                        return;
                    }
                    done.unprocessed += lines;
                }
            }
        }
        let format = Format::of(self.kind);
        let own: Vec<Vec<u8>> =
            batch.iter().map(|entry| format.message(entry, self.host)).collect();
        framed_all(self.kind, own.iter().map(Vec::as_slice), done);
    }
}

/// The instance and the stream of a line.
type Stream = (String, String);

fn stream(entry: &Entry) -> Stream {
    (entry.instance.clone(), entry.stream.clone())
}

/// Cuts a batch into what one call of a processor takes. A line that was cut stays in one part with
/// its rest, so that what is to be hidden in it is seen whole: it goes with the part that its end is
/// in. The reader bounds such a line, so a part is at most a few of them longer than others.
fn parts(batch: Vec<Entry>) -> Vec<Vec<Entry>> {
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    // Bytes of whole lines in the part, and of lines whose end has not come.
    let mut bytes = 0;
    let mut open: BTreeMap<Stream, usize> = BTreeMap::new();
    for entry in batch {
        let stream = stream(&entry);
        if entry.partial {
            *open.entry(stream).or_default() += entry.bytes();
        } else {
            let line = entry.bytes() + open.get(&stream).copied().unwrap_or(0);
            if bytes > 0 && bytes + line > PART_BYTES {
                let (whole, begun) = without_open(part, &open);
                parts.push(whole);
                (part, bytes) = (begun, 0);
            }
            bytes += line;
            open.remove(&stream);
        }
        part.push(entry);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// The entries of whole lines, and those of lines whose end has not come; both in their order.
fn without_open(part: Vec<Entry>, open: &BTreeMap<Stream, usize>) -> (Vec<Entry>, Vec<Entry>) {
    let mut open: BTreeSet<Stream> = open.keys().cloned().collect();
    let (mut whole, mut begun) = (Vec::new(), Vec::new());
    for entry in part.into_iter().rev() {
        let stream = stream(&entry);
        if entry.partial && open.contains(&stream) {
            begun.push(entry);
        } else {
            // What is before it is of lines that have ended.
            open.remove(&stream);
            whole.push(entry);
        }
    }
    whole.reverse();
    begun.reverse();
    (whole, begun)
}

fn framed_all<'a>(kind: SinkKind, messages: impl Iterator<Item = &'a [u8]>, done: &mut Messages) {
    for message in messages {
        match framed(kind, message) {
            Ok(frame) => done.frames.push(frame),
            Err(error) => {
                done.dropped += 1;
                done.error = Some(error.to_string());
            }
        }
    }
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
            _: Option<AppId>,
            batch: &[Entry],
        ) -> Result<Processed, ProcessorFailure> {
            match id.as_str() {
                "t.upper" => {
                    let mut changed = batch.to_vec();
                    changed.iter_mut().for_each(|entry| entry.line = entry.line.to_uppercase());
                    Ok(Processed::Entries(changed))
                }
                "t.frames" => Ok(Processed::Frames(vec![b"one".to_vec(), Vec::new()])),
                other => Err(ProcessorFailure {
                    message: format!("{other} failed"),
                    open: other == "t.open",
                }),
            }
        }
    }

    fn entry() -> Entry {
        Entry {
            app: "a".into(),
            process: "web".into(),
            instance: "web.1".into(),
            stream: "stdout".into(),
            at_ns: 0,
            seq: 1,
            line: "secret".into(),
            partial: false,
            extra: Vec::new(),
        }
    }

    async fn through(chain: &[&str]) -> Messages {
        let chain: Vec<ExtensionId> = chain.iter().map(|id| id.parse().unwrap()).collect();
        let kind = SinkKind::Https;
        let way = Way { processors: &ByName, app: None, chain: &chain, kind, host: "h" };
        way.messages(vec![entry()]).await
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
        let missing = NoProcessors.process(&"a.b".parse().unwrap(), None, &[]).await.unwrap_err();
        assert!(!missing.open);
    }

    #[test]
    fn a_line_that_was_cut_stays_in_one_part() {
        let cut = Entry { partial: true, line: "x".repeat(PART_BYTES), ..entry() };
        let other = Entry { instance: "web.2".into(), ..entry() };
        let sizes = |batch| parts(batch).iter().map(Vec::len).collect::<Vec<_>>();
        let batch = vec![cut.clone(), other.clone(), cut.clone(), entry(), entry()];
        assert_eq!(sizes(batch), [1, 3, 1]);
        // Others do not wait for its end, and are cut as ever.
        let fit = PART_BYTES / other.bytes();
        let batch = [vec![cut.clone()], vec![other; fit + 1], vec![entry()]].concat();
        let cut_parts = parts(batch);
        assert_eq!(cut_parts.iter().map(Vec::len).collect::<Vec<_>>(), [fit, 1, 2]);
        assert!(cut_parts[2][0].partial);
        assert_eq!(sizes(vec![cut]), [1], "an end that never came");
        assert_eq!(sizes(Vec::new()), [0; 0]);
        let fit = PART_BYTES / entry().bytes();
        assert_eq!(sizes(vec![entry(); fit + 1]), [fit, 1]);
    }
}
