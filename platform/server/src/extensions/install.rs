//! Installing, granting, configuring, switching off: what an operator decides of extensions.

use berth_extensions::check_extension;
use berth_model::AppId;
use berth_model::Digest;
use berth_model::extension::{Capabilities, ExtensionId, ExtensionManifest, Grant, Kind};
use berth_store::{By, Extension, ExtensionState, ExtensionVersion};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{ExtensionError, Registry};

/// Largest component, bytes.
const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What somebody looks at before they say yes.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// The component.
    pub component: Digest,
    /// The manifest inside it.
    pub manifest: ExtensionManifest,
    /// Names what it asks for: the first 16 hex digits of a SHA-256. Saying it is saying yes.
    pub hash: String,
    /// What it asks for, and why.
    pub lines: Vec<(String, String)>,
    /// What of it is more than was reviewed before.
    pub beyond: Vec<String>,
    /// The version that is installed.
    pub installed: Option<String>,
}

/// What an operator decides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// The hash of what was reviewed.
    pub accept: Option<String>,
    /// Less than it asks for; nothing means all of it.
    pub granted: Option<Capabilities>,
    /// The apps that it is for; nothing leaves it as it is, which is all at first.
    pub apps: Option<Vec<AppId>>,
    /// Its configuration; nothing leaves it as it is, which is empty at first.
    pub config: Option<Value>,
}

fn hash(capabilities: &Capabilities) -> String {
    hex::encode(&Sha256::digest(capabilities.canonical())[..8])
}

impl Registry {
    pub(crate) fn review_of(version: &ExtensionVersion, installed: Option<&Extension>) -> Review {
        let asked = &version.manifest.capabilities;
        let known = installed.map(|row| row.grant.asked.clone()).unwrap_or_default();
        Review {
            component: version.component,
            hash: hash(asked),
            lines: asked.lines(),
            beyond: known.beyond(asked),
            installed: installed.map(|row| row.version.manifest.version.clone()),
            manifest: version.manifest.clone(),
        }
    }

    /// What a component is and asks for. Nothing is kept of it.
    ///
    /// # Errors
    /// `Component` when it is no extension, `TooLarge`.
    pub async fn review(&self, component: Vec<u8>) -> Result<Review, ExtensionError> {
        let version = read(&component)?;
        let installed = self.inner.store.extension(&version.manifest.id).await?;
        Ok(Self::review_of(&version, installed.as_ref()))
    }

    /// Installs a component, or another version of one that is there. Gives the row, and whether
    /// this version is what runs: one that asks for more than was reviewed waits until it is
    /// granted, while the version before it goes on.
    ///
    /// # Errors
    /// As [`ExtensionError`] says; what was there before goes on then.
    pub async fn install(
        &self,
        component: Vec<u8>,
        choice: Choice,
        by: By,
    ) -> Result<(Extension, bool), ExtensionError> {
        let version = read(&component)?;
        let _one_at_a_time = self.inner.installing.lock().await;
        let id = version.manifest.id.clone();
        let before = self.inner.store.extension(&id).await?;
        if let Some(old) = &before
            && old.version.manifest.kind != version.manifest.kind
        {
            let (old, new) = (old.version.manifest.kind, version.manifest.kind);
            return Err(ExtensionError::Conflict(format!(
                "{id} is installed as a {old}; remove it before a {new} of this name is installed"
            )));
        }
        let approved = self.approved(&version, before.as_ref(), &choice)?;
        self.keep(component).await?;
        let Some(grant) = approved else {
            let Some(old) = before else {
                let review = Self::review_of(&version, None);
                return Err(ExtensionError::NeedsApproval(Box::new(review)));
            };
            let row = Extension { waiting: Some(version), changed_at_ms: by.at_ms, ..old };
            self.inner.store.put_extension(&row, &by).await?;
            return Ok((row, false));
        };
        let row = match before {
            Some(old) => Extension {
                // Another version is given another chance.
                state: match old.state {
                    ExtensionState::Quarantined if old.version.component != version.component => {
                        ExtensionState::Active
                    }
                    state => state,
                },
                version,
                grant,
                config: choice.config.unwrap_or(old.config),
                apps: choice.apps.or(old.apps),
                waiting: None,
                changed_at_ms: by.at_ms,
                ..old
            },
            None => Extension {
                id,
                version,
                grant,
                config: choice.config.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
                apps: choice.apps,
                state: ExtensionState::Active,
                waiting: None,
                seen: self.inner.store.newest_event().await?,
                installed_at_ms: by.at_ms,
                changed_at_ms: by.at_ms,
            },
        };
        self.put(row, &by).await.map(|row| (row, true))
    }

    /// The grant that a version runs with, or nothing when somebody has to say yes first.
    fn approved(
        &self,
        version: &ExtensionVersion,
        before: Option<&Extension>,
        choice: &Choice,
    ) -> Result<Option<Grant>, ExtensionError> {
        let asked = &version.manifest.capabilities;
        let review = || Box::new(Self::review_of(version, before));
        if let Some(given) = &choice.accept
            && *given != hash(asked)
        {
            return Err(ExtensionError::OtherHash { given: given.clone(), review: review() });
        }
        if let Some(granted) = &choice.granted {
            let more = asked.beyond(granted);
            if !more.is_empty() {
                return Err(ExtensionError::TooMuch(more.join("; ")));
            }
            return Ok(Some(Grant { asked: asked.clone(), granted: granted.clone() }));
        }
        if choice.accept.is_some() || asked == &Capabilities::default() {
            return Ok(Some(Grant { asked: asked.clone(), granted: asked.clone() }));
        }
        Ok(before.filter(|old| old.grant.still_covers(asked)).map(|old| old.grant.clone()))
    }

    /// Keeps the component as a blob.
    async fn keep(&self, component: Vec<u8>) -> Result<(), ExtensionError> {
        let blobs = std::sync::Arc::clone(&self.inner.compiler.blobs);
        let put = tokio::task::spawn_blocking(move || {
            blobs.put(std::io::Cursor::new(component), COMPONENT_BYTES_MAX)
        });
        put.await
            .map_err(|error| ExtensionError::Blobs(error.into()))?
            .map_err(|error| ExtensionError::Blobs(error.into()))?;
        Ok(())
    }

    /// Checks a row as a whole, brings it to life, and writes it. What cannot be run is not
    /// written, and the one before it goes on.
    async fn put(&self, row: Extension, by: &By) -> Result<Extension, ExtensionError> {
        let schema = &row.version.manifest.config_schema;
        let refused = |reason: String| ExtensionError::Config { id: row.id.clone(), reason };
        let validator = jsonschema::validator_for(schema)
            .map_err(|error| refused(format!("its schema is not usable: {error}")))?;
        if let Err(error) = validator.validate(&row.config) {
            return Err(refused(format!("{}: {error}", error.instance_path())));
        }
        let before = self.live(&row.id);
        let live = self.activate(row.clone()).await?;
        if let Err(error) = self.inner.store.put_extension(&row, by).await {
            // What is not written does not go on.
            let mut all =
                self.inner.live.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            match before {
                Some(old) => all.insert(row.id.clone(), old),
                None => all.remove(&row.id),
            };
            drop(all);
            self.changed();
            return Err(error.into());
        }
        Ok(live.row.clone())
    }

    async fn existing(&self, id: &ExtensionId) -> Result<Extension, ExtensionError> {
        let row = self.inner.store.extension(id).await?;
        row.ok_or_else(|| ExtensionError::NotFound(id.clone()))
    }

    async fn edit(
        &self,
        id: &ExtensionId,
        by: By,
        change: impl FnOnce(Extension) -> Extension,
    ) -> Result<Extension, ExtensionError> {
        let _one_at_a_time = self.inner.installing.lock().await;
        let row = change(self.existing(id).await?);
        self.put(Extension { changed_at_ms: by.at_ms, ..row }, &by).await
    }

    /// Grants: what the version that waits asks for, which runs from then on; or, where none waits,
    /// another set for the version that runs, in the place of the one before.
    ///
    /// # Errors
    /// As [`ExtensionError`] says.
    pub async fn grant(
        &self,
        id: &ExtensionId,
        choice: Choice,
        by: By,
    ) -> Result<Extension, ExtensionError> {
        let _one_at_a_time = self.inner.installing.lock().await;
        let row = self.existing(id).await?;
        let version = row.waiting.clone().unwrap_or_else(|| row.version.clone());
        if choice.accept.is_none() && choice.granted.is_none() {
            let review = Self::review_of(&version, Some(&row));
            return Err(ExtensionError::NeedsApproval(Box::new(review)));
        }
        let Some(grant) = self.approved(&version, Some(&row), &choice)? else {
            let review = Self::review_of(&version, Some(&row));
            return Err(ExtensionError::NeedsApproval(Box::new(review)));
        };
        let row = Extension {
            version,
            grant,
            waiting: None,
            apps: choice.apps.or(row.apps),
            config: choice.config.unwrap_or(row.config),
            changed_at_ms: by.at_ms,
            ..row
        };
        self.put(row, &by).await
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
        if value.is_some() && !row.version.manifest.capabilities.may_use_secret(name) {
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
        self.set_state(id, ExtensionState::Disabled, by).await
    }

    /// Disables all of them; gives their names.
    ///
    /// # Errors
    /// What the database says.
    pub async fn disable_all(&self, by: By) -> Result<Vec<ExtensionId>, ExtensionError> {
        let mut disabled = Vec::new();
        for row in self.inner.store.extensions().await? {
            if row.state != ExtensionState::Disabled {
                self.disable(&row.id, by.clone()).await?;
                disabled.push(row.id);
            }
        }
        Ok(disabled)
    }

    /// Calls it again, whatever it did before.
    ///
    /// # Errors
    /// `NotFound`, and what the platform says.
    pub async fn resume(&self, id: &ExtensionId, by: By) -> Result<Extension, ExtensionError> {
        {
            // Its faults are forgotten, even when it is the same component.
            let mut all =
                self.inner.live.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            all.remove(id);
        }
        self.edit(id, by, |row| Extension { state: ExtensionState::Active, ..row }).await
    }

    /// Writes a state, and lets it hold at once.
    pub(super) async fn set_state(
        &self,
        id: &ExtensionId,
        state: ExtensionState,
        by: By,
    ) -> Result<Extension, ExtensionError> {
        let _one_at_a_time = self.inner.installing.lock().await;
        let row = self.existing(id).await?;
        let row = Extension { state, changed_at_ms: by.at_ms, ..row };
        self.inner.store.put_extension(&row, &by).await?;
        if let Err(error) = self.activate(row.clone()).await {
            // It is not called anyway.
            tracing::warn!(extension = %id, "not loaded: {error}");
            let mut all =
                self.inner.live.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            all.remove(id);
            drop(all);
            self.changed();
        }
        Ok(row)
    }

    /// Removes it with everything that it kept; false when it was not there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove(&self, id: &ExtensionId, by: By) -> Result<bool, ExtensionError> {
        let _one_at_a_time = self.inner.installing.lock().await;
        let removed = self.inner.store.remove_extension(id, &by).await?;
        self.inner.live.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
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

fn read(component: &[u8]) -> Result<ExtensionVersion, ExtensionError> {
    if component.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(ExtensionError::TooLarge { bytes_max: COMPONENT_BYTES_MAX });
    }
    let manifest = check_extension(component)?;
    let component = Digest::from_sha256(Sha256::digest(component).into());
    Ok(ExtensionVersion { component, manifest })
}
