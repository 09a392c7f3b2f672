//! Shows that something goes on: on a terminal a line that moves, elsewhere a plain line whenever
//! there is news. Standard error only; a command's data never mixes with it.

use std::future::Future;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// How often the line moves.
const TICK: Duration = Duration::from_millis(250);
/// How often news are asked for.
const PERIOD: Duration = Duration::from_secs(1);

/// Does `work` and shows `what`, and what `news` knows meanwhile.
pub(crate) async fn shown<T>(
    output: &Output,
    what: &str,
    work: impl Future<Output = T>,
    news: impl AsyncFn() -> Option<String>,
) -> T {
    let mut line = Line::new(output, what);
    tokio::pin!(work);
    loop {
        let next = async {
            tokio::time::sleep(PERIOD).await;
            news().await
        };
        tokio::select! {
            done = &mut work => return done,
            text = next => if let Some(text) = text {
                line.tell(&text);
            },
        }
    }
}

struct Line<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    what: String,
    told: String,
}

impl<'a> Line<'a> {
    fn new(output: &'a Output, what: &str) -> Self {
        let bar = output.moves().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { output, bar, what: what.to_owned(), told: String::new() }
    }

    fn tell(&mut self, text: &str) {
        if self.told == text {
            return;
        }
        text.clone_into(&mut self.told);
        let line = format!("{}: {text}", self.what);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None => self.output.note(&line),
        }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
