//! One timer per socket that is cheap to move: it is armed when something waits, never disarmed,
//! and looks at the deadline again when it fires. A busy keep-alive connection arms it about once
//! per deadline, not once per request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;

use crate::clock;

#[derive(Default)]
pub(crate) struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed_ms: u64,
}

impl LazyTimer {
    /// Ready once `deadline_ms` (of [`clock::now_ms`]) has passed; otherwise the task is woken at
    /// that time or earlier, and must ask again.
    pub(crate) fn poll_until(&mut self, deadline_ms: u64, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if clock::now_ms() >= deadline_ms {
                return Poll::Ready(());
            }
            let sleep = self.sleep.get_or_insert_with(|| {
                self.armed_ms = deadline_ms;
                Box::pin(tokio::time::sleep_until(clock::instant(deadline_ms)))
            });
            if self.armed_ms > deadline_ms || sleep.is_elapsed() {
                self.armed_ms = deadline_ms;
                sleep.as_mut().reset(clock::instant(deadline_ms));
            }
            ready!(sleep.as_mut().poll(cx));
        }
    }
}
