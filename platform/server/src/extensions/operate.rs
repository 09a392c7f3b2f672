//! Configuring, switching off, resuming, removing: what an operator decides of what is installed.
//!
//! The verbs of recovery (`disable`, `disable_all`, `remove`) write a row and swap a value. They
//! compile, link and call nothing, and wait for nobody who does: code is made ready before the lock
//! is taken.

use std::sync::{Arc, PoisonError};

use berth_extensions::powers::CallError;
use berth_model::AppId;
use berth_model::extension::{ExtensionId, Kind};
use berth_store::{By, Extension, ExtensionState, ExtensionVersion};
use serde_json::Value;

use super::powers::Powers;
use super::{Callable, ExtensionError, Live, Registry};

impl Registry {
    /// Checks a row as a whole, writes it, and brings it to life. What does not start is not
    /// written, and the one before it goes on. The caller holds the lock.
    pub(super) async fn put(
        &self,
        row: Extension,
        code: Arc<berth_extensions::Code>,
        by: &By,
    ) -> Result<Extension, ExtensionError> {
        let schema = &row.version.manifest.config_schema;
        let refused = |reason: String| ExtensionError::Config { id: row.id.clone(), reason };
        let validator = jsonschema::validator_for(schema)
            .map_err(|error| refused(format!("its schema is not usable: {error}")))?;
        if let Err(error) = validator.validate(&row.config) {
            return Err(refused(format!("{}: {error}", error.instance_path())));
        }
        let live = Arc::new(self.link(row.clone(), code)?);
        self.start(&live).await?;
        self.inner.store.put_extension(&row, by).await?;
        self.swap(live);
        Ok(row)
    }

    /// Whether it starts at all. It is bounded as every call of it is.
    async fn start(&self, live: &Arc<Live>) -> Result<(), ExtensionError> {
        let session = live.session(Powers::of(self, live, None));
        let called = match &*live.callable {
            Callable::Hook(hook) => hook.start(session).await,
            Callable::Policy(policy) => policy.start(session).await,
            Callable::LogProcessor(processor) => processor.start(session).await,
            Callable::Addon(addon) => addon.start(session).await,
            Callable::Console(console) => console.start(session).await,
            Callable::Elsewhere | Callable::Broken(_) => return Ok(()),
        };
        called.result.map_err(|error| match error {
            CallError::Guest(error) => ExtensionError::Start(error.to_string()),
            CallError::Failure(failure) => ExtensionError::Start(failure.message),
            CallError::Host(reason) => ExtensionError::Start(reason),
        })
    }

    async fn existing(&self, id: &ExtensionId) -> Result<Extension, ExtensionError> {
        let row = self.inner.store.extension(id).await?;
        row.ok_or_else(|| ExtensionError::NotFound(id.clone()))
    }

    /// Changes a row. The code of the version that `chosen` names is ready before the lock is
    /// taken; when another version was chosen meanwhile, it begins anew.
    pub(super) async fn edit_to(
        &self,
        id: &ExtensionId,
        by: By,
        chosen: impl Fn(&Extension) -> ExtensionVersion,
        change: impl FnOnce(Extension, ExtensionVersion) -> Result<Extension, ExtensionError>,
    ) -> Result<Extension, ExtensionError> {
        loop {
            let version = chosen(&self.existing(id).await?);
            let code = self.code(version.component).await?;
            let _one_at_a_time = self.inner.installing.lock().await;
            let row = self.existing(id).await?;
            if chosen(&row).component != version.component {
                continue;
            }
            let row = change(Extension { changed_at_ms: by.at_ms, ..row }, version)?;
            return self.put(row, code, &by).await;
        }
    }

    async fn edit(
        &self,
        id: &ExtensionId,
        by: By,
        change: impl FnOnce(Extension) -> Extension,
    ) -> Result<Extension, ExtensionError> {
        let granted = |row: Extension, _| match row.state {
            ExtensionState::Waiting => Err(ExtensionError::Conflict(format!(
                "nothing was granted to {} yet; grant what it asks for first",
                row.id
            ))),
            _ => Ok(change(row)),
        };
        self.edit_to(id, by, |row| row.version.clone(), granted).await
    }

    /// Another configuration, which its schema must allow.
    ///
    /// # Errors
    /// `Config`, `NotFound`, and what the platform says.
    pub async fn configure(
        &self,
        id: &ExtensionId,
        config: Value,
        by: By,
    ) -> Result<Extension, ExtensionError> {
        self.edit(id, by, |row| Extension { config, ..row }).await
    }

    /// The apps that it is for; nothing means all of them.
    ///
    /// # Errors
    /// `NotFound`, and what the platform says.
    pub async fn set_apps(
        &self,
        id: &ExtensionId,
        apps: Option<Vec<AppId>>,
        by: By,
    ) -> Result<Extension, ExtensionError> {
        self.edit(id, by, |row| Extension { apps, ..row }).await
    }

    /// Sets a secret that its manifest names, or removes it.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for a name that it does not ask for.
    pub async fn set_secret(
        &self,
        id: &ExtensionId,
        name: &str,
        value: Option<&str>,
        by: By,
    ) -> Result<(), ExtensionError> {
        let row = self.existing(id).await?;
        let asks = |version: &ExtensionVersion| version.manifest.capabilities.may_use_secret(name);
        // Of the version that waits too: it is granted once it has what it needs.
        if value.is_some() && !asks(&row.version) && !row.waiting.as_ref().is_some_and(asks) {
            let name = berth_model::text::printable(name, 80);
            return Err(ExtensionError::Conflict(format!(
                "{id} does not ask for a secret '{name}'"
            )));
        }
        self.inner.store.set_extension_secret(id, name, value, &by).await?;
        // A middleware has its secrets with its configuration.
        self.changed();
        Ok(())
    }

    /// Calls it no more, until it is resumed. Its code is not needed for it.
    ///
    /// # Errors
    /// `NotFound`, and what the database says.
    pub async fn disable(&self, id: &ExtensionId, by: By) -> Result<Extension, ExtensionError> {
        let _one_at_a_time = self.inner.installing.lock().await;
        let row = self.existing(id).await?;
        if row.state == ExtensionState::Waiting {
            // It is not called anyway, and is not called by being resumed.
            return Ok(row);
        }
        self.write_state(row, ExtensionState::Disabled, &by).await
    }

    /// Disables all of them; gives their names.
    ///
    /// # Errors
    /// What the database says.
    pub async fn disable_all(&self, by: By) -> Result<Vec<ExtensionId>, ExtensionError> {
        let _one_at_a_time = self.inner.installing.lock().await;
        let mut disabled = Vec::new();
        for row in self.inner.store.extensions().await? {
            if matches!(row.state, ExtensionState::Active | ExtensionState::Quarantined) {
                let row = self.write_state(row, ExtensionState::Disabled, &by).await?;
                disabled.push(row.id);
            }
        }
        Ok(disabled)
    }

    /// Calls it again, whatever it did before. Until it starts, what was there before stays: what
    /// fails closed is closed all the time.
    ///
    /// # Errors
    /// `NotFound`, and what the platform says.
    pub async fn resume(&self, id: &ExtensionId, by: By) -> Result<Extension, ExtensionError> {
        let active = |row| Extension { state: ExtensionState::Active, ..row };
        let row = self.edit(id, by, active).await?;
        if let Some(live) = self.live(id) {
            // Also where only its rest is ended, and its component is the same.
            live.forget_faults();
        }
        Ok(row)
    }

    /// Writes that it is called no more until somebody says so; not when an operator switched it
    /// off, or put another version in its place meanwhile.
    pub(super) async fn quarantine(&self, live: &Live, by: By) -> Result<(), ExtensionError> {
        let _one_at_a_time = self.inner.installing.lock().await;
        let same = |row: &Extension| {
            row.state == ExtensionState::Active
                && row.version.component == live.row.version.component
        };
        if let Some(row) = self.inner.store.extension(&live.row.id).await?.filter(same) {
            self.write_state(row, ExtensionState::Quarantined, &by).await?;
        }
        Ok(())
    }

    /// Writes a state, and lets it hold at once, with what is linked already. The caller holds the
    /// lock.
    async fn write_state(
        &self,
        row: Extension,
        state: ExtensionState,
        by: &By,
    ) -> Result<Extension, ExtensionError> {
        let row = Extension { state, changed_at_ms: by.at_ms, ..row };
        self.inner.store.put_extension(&row, by).await?;
        let rules = self.inner.config.breaker;
        let live = match self.live(&row.id) {
            Some(live) => live.in_state(rules, row.clone()),
            None => Live::broken(rules, row.clone(), "it was never loaded".to_owned(), None),
        };
        self.swap(Arc::new(live));
        Ok(row)
    }

    /// Removes it with everything that it kept; false when it was not there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove(&self, id: &ExtensionId, by: By) -> Result<bool, ExtensionError> {
        let _one_at_a_time = self.inner.installing.lock().await;
        let removed = self.inner.store.remove_extension(id, &by).await?;
        self.inner.live.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.changed();
        Ok(removed)
    }

    /// Offers dead letters of a hook again: one event, or all of them. Gives their number.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when it is no hook.
    pub async fn replay(
        &self,
        id: &ExtensionId,
        event: Option<i64>,
    ) -> Result<u64, ExtensionError> {
        let row = self.existing(id).await?;
        if row.version.manifest.kind != Kind::Hook {
            return Err(ExtensionError::Conflict(format!(
                "{id} is no hook; only hooks have events to replay"
            )));
        }
        let now_ms = crate::clock::now_ms();
        let count = self.inner.store.replay_deliveries(id, event, now_ms).await?;
        self.changed();
        Ok(count)
    }
}
