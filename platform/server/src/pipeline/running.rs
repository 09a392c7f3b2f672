//! The builds that are carried now, and how each is ended from outside.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_model::{AppId, Build, BuildId};
use tokio_util::sync::CancellationToken;

/// Builds that can be ended. Cheap to clone.
#[derive(Clone, Default)]
pub struct Running(Arc<Mutex<HashMap<BuildId, (AppId, Tokens)>>>);

/// What ends a build.
#[derive(Clone)]
pub(crate) struct Tokens {
    /// Ends the build; without effect once the release exists.
    pub(crate) cancel: CancellationToken,
    /// Its app is gone: nobody waits for a deployment of it.
    pub(crate) destroyed: CancellationToken,
}

/// One build's place; dropping it gives it back.
pub(crate) struct Place {
    running: Running,
    build: BuildId,
    tokens: Tokens,
}

impl Running {
    fn builds(&self) -> MutexGuard<'_, HashMap<BuildId, (AppId, Tokens)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, build: &Build, cancel: CancellationToken) -> Place {
        let tokens = Tokens { cancel, destroyed: CancellationToken::new() };
        self.builds().insert(build.id, (build.app, tokens.clone()));
        Place { running: self.clone(), build: build.id, tokens }
    }

    /// Cancels a build; says whether it ran.
    pub fn cancel(&self, build: BuildId) -> bool {
        self.builds().get(&build).inspect(|(_, tokens)| tokens.cancel.cancel()).is_some()
    }

    /// Ends whatever is carried of an app that was destroyed.
    pub fn end_app(&self, app: AppId) {
        for (_, tokens) in self.builds().values().filter(|(owner, _)| *owner == app) {
            tokens.cancel.cancel();
            tokens.destroyed.cancel();
        }
    }
}

impl Place {
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.builds().remove(&self.build);
    }
}
