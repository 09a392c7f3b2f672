//! Processors are installed extensions of the kind `log-processor`. One that fails, rests or is
//! switched off does to the batch what its manifest says: `on_failure = "open"` lets it pass and is
//! what a manifest that says nothing means; `"closed"` keeps it back, as whatever hides something
//! must.

use async_trait::async_trait;
use berth_extensions::log_processor::{Entry as Line, Output};
use berth_extensions::powers::{CallError, Called, Usage};
use berth_model::AppId;
use berth_model::drain::Entry;
use berth_model::extension::{ExtensionId, OnFailure};

use super::process::{Processed, ProcessorFailure, Processors};
use crate::extensions::{Callable, Registry};

#[async_trait]
impl Processors for Registry {
    async fn process(
        &self,
        id: &ExtensionId,
        app: Option<AppId>,
        batch: &[Entry],
    ) -> Result<Processed, ProcessorFailure> {
        let Some(live) = self.live(id) else {
            let message = format!("the extension {id} is not installed");
            return Err(ProcessorFailure { message, open: false });
        };
        let open = live.row.version.manifest.on_failure == OnFailure::Open;
        let failed = |message: String| ProcessorFailure { message, open };
        if !app.map_or(live.row.apps.is_none(), |app| live.row.is_for(app)) {
            return Err(failed(format!(
                "the extension {id} was not granted for this drain's apps"
            )));
        }
        let lines: Vec<Line> = batch.iter().map(line).collect();
        let called = self.call(&live, app, async |callable, session| match callable {
            Callable::LogProcessor(processor) => processor.process(&lines, session).await,
            _ => Called {
                result: Err(CallError::Host("the extension is of another kind".to_owned())),
                usage: Usage::default(),
            },
        });
        match called.await {
            Ok(Output::Entries(lines)) => {
                Ok(Processed::Entries(lines.into_iter().map(entry).collect()))
            }
            Ok(Output::Frames(frames)) => Ok(Processed::Frames(frames)),
            Err(error) => {
                let text = error.to_string();
                Err(failed(format!("{id}: {}", text.lines().next().unwrap_or_default())))
            }
        }
    }
}

fn line(entry: &Entry) -> Line {
    Line {
        app: entry.app.clone(),
        process: entry.process.clone(),
        instance: entry.instance.clone(),
        stream: entry.stream.clone(),
        at_ns: entry.at_ns,
        seq: entry.seq,
        line: entry.line.clone(),
        partial: entry.partial,
        extra: entry.extra.clone(),
    }
}

fn entry(line: Line) -> Entry {
    Entry {
        app: line.app,
        process: line.process,
        instance: line.instance,
        stream: line.stream,
        at_ns: line.at_ns,
        seq: line.seq,
        line: line.line,
        partial: line.partial,
        extra: line.extra,
    }
}
