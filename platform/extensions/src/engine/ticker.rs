//! Advances the epoch of an engine from a thread of its own.
//!
//! A timer of the async runtime would stand still when guests hold all its workers. The thread
//! sleeps while no guest runs, so an idle platform is not woken.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(5);

/// The clock of one engine. Dropping it ends the thread.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    guests: usize,
    closed: bool,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new() });
        let engine = engine.weak();
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("wasm-epoch".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || of_thread.tick(&engine))?;
        Ok(Self { shared })
    }

    /// The clock runs until the guard is dropped. Taken before a guest is instantiated.
    pub(crate) fn run(&self) -> Ticking {
        let mut state = self.shared.lock();
        state.guests += 1;
        if state.guests == 1 {
            self.shared.changed.notify_one();
        }
        Ticking { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, engine: &EngineWeak) {
        loop {
            let idle = |state: &mut State| state.guests == 0 && !state.closed;
            let state =
                self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            if state.closed && state.guests == 0 {
                return;
            }
            drop(state);
            std::thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    }
}

/// A guest that runs.
pub(crate) struct Ticking {
    shared: Arc<Shared>,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.guests -= 1;
        if state.guests == 0 && state.closed {
            self.shared.changed.notify_one();
        }
    }
}
