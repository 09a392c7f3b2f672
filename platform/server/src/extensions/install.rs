//! Installing and granting: what a component is, what it asks for, and who said yes to it.

use std::fs::File;
use std::sync::Arc;

use berth_extensions::check_extension;
use berth_model::AppId;
use berth_model::Digest;
use berth_model::extension::{Capabilities, ExtensionId, ExtensionManifest, Grant};
use berth_store::{By, Extension, ExtensionState, ExtensionVersion};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{ExtensionError, Registry};

/// Largest component, bytes.
pub(super) const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

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
        self.take(component, choice, Unasked::Refused, by).await
    }

    /// The same for what nobody asked for: one that is new and asks for something waits as well.
    pub(super) async fn propose(
        &self,
        component: Vec<u8>,
        by: By,
    ) -> Result<(Extension, bool), ExtensionError> {
        self.take(component, Choice::default(), Unasked::Waits, by).await
    }

    async fn take(
        &self,
        component: Vec<u8>,
        choice: Choice,
        unasked: Unasked,
        by: By,
    ) -> Result<(Extension, bool), ExtensionError> {
        let version = read(&component)?;
        let id = version.manifest.id.clone();
        // Nobody's yes is kept of it: the row is read again when it counts.
        let before = self.inner.store.extension(&id).await?;
        let approved = self.approved(&version, before.as_ref(), &choice)?.is_some();
        if !approved && before.is_none() && unasked == Unasked::Refused {
            let review = Self::review_of(&version, None);
            return Err(ExtensionError::NeedsApproval(Box::new(review)));
        }
        self.keep(component).await?;
        let code = match approved {
            true => Some(self.code(version.component).await?),
            false => None,
        };
        let _one_at_a_time = self.inner.installing.lock().await;
        let before = self.inner.store.extension(&id).await?;
        let grant = self.approved(&version, before.as_ref(), &choice)?;
        let row = match (before, grant) {
            (None, None) if unasked == Unasked::Refused => {
                let review = Self::review_of(&version, None);
                return Err(ExtensionError::NeedsApproval(Box::new(review)));
            }
            (before, None) => {
                let row = match before {
                    Some(old) => waits(old, version, by.at_ms)?,
                    None => Extension {
                        waiting: Some(version.clone()),
                        state: ExtensionState::Waiting,
                        ..self.new_row(version, Grant::default(), choice, by.at_ms).await?
                    },
                };
                self.inner.store.put_extension(&row, &by).await?;
                return Ok((row, false));
            }
            (Some(old), Some(grant)) => {
                same_kind(&old, &version)?;
                updated(old, version, grant, choice, by.at_ms)
            }
            (None, Some(grant)) => self.new_row(version, grant, choice, by.at_ms).await?,
        };
        let code = match code {
            Some(code) => code,
            // It was approved by somebody else meanwhile.
            None => self.code(row.version.component).await?,
        };
        self.put(row, code, &by).await.map(|row| (row, true))
    }

    /// The row of one that is not there yet.
    async fn new_row(
        &self,
        version: ExtensionVersion,
        grant: Grant,
        choice: Choice,
        at_ms: i64,
    ) -> Result<Extension, ExtensionError> {
        Ok(Extension {
            id: version.manifest.id.clone(),
            version,
            grant,
            config: choice.config.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            apps: choice.apps,
            state: ExtensionState::Active,
            waiting: None,
            seen: self.inner.store.newest_event().await?,
            installed_at_ms: at_ms,
            changed_at_ms: at_ms,
        })
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
        let blobs = Arc::clone(&self.inner.compiler.blobs);
        let put = tokio::task::spawn_blocking(move || {
            blobs.put(std::io::Cursor::new(component), COMPONENT_BYTES_MAX)
        });
        put.await
            .map_err(|error| ExtensionError::Blobs(error.into()))?
            .map_err(|error| ExtensionError::Blobs(error.into()))?;
        Ok(())
    }

    /// A component that was kept, and its length in bytes.
    ///
    /// # Errors
    /// `Blobs`.
    pub async fn component(&self, component: Digest) -> Result<(File, u64), ExtensionError> {
        let blobs = Arc::clone(&self.inner.compiler.blobs);
        let opened = move || Ok((blobs.get(&component)?, blobs.len(&component)?));
        tokio::task::spawn_blocking(opened)
            .await
            .map_err(|error| ExtensionError::Blobs(error.into()))?
            .map_err(|error: berth_blobs::BlobError| ExtensionError::Blobs(error.into()))
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
        let chosen = |row: &Extension| row.waiting.clone().unwrap_or_else(|| row.version.clone());
        self.edit_to(id, by, chosen, |row, version| {
            let explicit = choice.accept.is_some() || choice.granted.is_some();
            let approved = match explicit {
                true => self.approved(&version, Some(&row), &choice)?,
                false => None,
            };
            let Some(grant) = approved else {
                let review = Self::review_of(&version, Some(&row));
                return Err(ExtensionError::NeedsApproval(Box::new(review)));
            };
            let at_ms = row.changed_at_ms;
            Ok(updated(row, version, grant, choice, at_ms))
        })
        .await
    }
}

/// What becomes of a new extension that nobody said yes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unasked {
    /// Who sent it is told what to say.
    Refused,
    /// Nobody is there to be told.
    Waits,
}

/// A version that asks for more than was granted, beside the one that goes on.
fn waits(
    old: Extension,
    version: ExtensionVersion,
    at_ms: i64,
) -> Result<Extension, ExtensionError> {
    same_kind(&old, &version)?;
    let shown = match old.state {
        // Nothing goes on.
        ExtensionState::Waiting => version.clone(),
        _ => old.version,
    };
    Ok(Extension { version: shown, waiting: Some(version), changed_at_ms: at_ms, ..old })
}

/// Another version, or another grant, in the place of the one before.
fn updated(
    old: Extension,
    version: ExtensionVersion,
    grant: Grant,
    choice: Choice,
    at_ms: i64,
) -> Extension {
    Extension {
        // Another version is given another chance.
        state: match old.state {
            ExtensionState::Quarantined if old.version.component != version.component => {
                ExtensionState::Active
            }
            ExtensionState::Waiting => ExtensionState::Active,
            state => state,
        },
        version,
        grant,
        config: choice.config.unwrap_or(old.config),
        apps: choice.apps.or(old.apps),
        waiting: None,
        changed_at_ms: at_ms,
        ..old
    }
}

fn same_kind(old: &Extension, version: &ExtensionVersion) -> Result<(), ExtensionError> {
    let (id, was, is) = (&old.id, old.version.manifest.kind, version.manifest.kind);
    if was == is {
        return Ok(());
    }
    Err(ExtensionError::Conflict(format!(
        "{id} is installed as a {was}; remove it before a {is} of this name is installed"
    )))
}

/// What a component is.
pub(super) fn read(component: &[u8]) -> Result<ExtensionVersion, ExtensionError> {
    if component.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(ExtensionError::TooLarge { bytes_max: COMPONENT_BYTES_MAX });
    }
    let manifest = check_extension(component)?;
    let component = Digest::from_sha256(Sha256::digest(component).into());
    Ok(ExtensionVersion { component, manifest })
}
