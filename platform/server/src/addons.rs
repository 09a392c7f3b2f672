//! Add-ons: made from what an extension describes, backed up and restored.
//!
//! Takes an extension's description and makes an app of it: an image of Debian packages, volumes,
//! secrets that nobody chose. From its release on it is deployed like every app. Whatever is asked
//! of an extension is asked anew each time, so that an add-on is backed up as the version says that
//! is installed then.

mod backup;
mod image;

use berth_extensions::addon::Request;
use berth_model::addon::{Addon, Blueprint};
use berth_model::extension::{Capabilities, Kind};
use berth_model::plan::{Change, Config, NewAddon, Secret};
use berth_model::{App, AppName, Deployment, TeamId};
use berth_store::{Backup, By};
use serde_json::Value;
use std::sync::Arc;

use crate::extensions::Live;
use crate::git::{Lock, Locks};
use crate::http::{ActionError, AddonActions, Doing, NewAddonAsk};
use crate::pipeline::Pipeline;

/// What is made of add-ons. Cheap to clone.
#[derive(Clone)]
pub struct Addons {
    pub(crate) pipeline: Pipeline,
    pub(crate) locks: Locks,
}

fn internal<E: std::error::Error + Send + Sync + 'static>(error: E) -> ActionError {
    ActionError::Internal(Box::new(error))
}

impl Addons {
    async fn create(&self, ask: NewAddonAsk, by: By) -> Result<(App, Deployment), ActionError> {
        let live = self.pipeline.extensions.addon_kind(&ask.kind).map_err(ActionError::Refused)?;
        let options = live.options(&ask.options).map_err(ActionError::Refused)?;
        let blueprint = self.blueprint(&live, &ask.name, &options).await?;
        let (packages, image) = (blueprint.packages.clone(), blueprint.manifest.clone());
        let change = self.change(&live, options, blueprint, ask.name, ask.team)?;
        // What cannot be is refused before minutes are spent on it.
        self.pipeline.judge(None, &change, &by).await.map_err(ActionError::Refused)?;
        let store = &self.pipeline.store;
        store.plan(None, &change).await.map_err(refused)?;
        self.pipeline.disk.room().map_err(ActionError::Unavailable)?;
        let image = self.image(&packages, image).await?;
        let made = store.change(None, &change, None, &by).await.map_err(refused)?;
        // One change has one event with the key of the request.
        let by = By { once: None, ..by };
        let release = Change::ReleaseAddon {
            image: image.digest,
            manifest: Box::new(image.manifest.clone()),
        };
        store.put_image(&image, by.at_ms).await.map_err(internal)?;
        let released = store.change(Some(made.app.id), &release, None, &by).await;
        let released = released.map_err(refused)?;
        self.pipeline.changed(made.app.id);
        let deployment = released.deployment.ok_or_else(|| {
            ActionError::Failed("the add-on was made, but not released".to_owned())
        })?;
        Ok((released.app, deployment))
    }

    /// What the extension says, checked against what it was granted.
    async fn blueprint(
        &self,
        live: &Arc<Live>,
        name: &AppName,
        options: &Value,
    ) -> Result<Blueprint, ActionError> {
        let request = request(name, options);
        let said = self.pipeline.extensions.provision(live, &request).await;
        let spec = said.map_err(|error| ActionError::Failed(error.to_string()))?;
        // What is both asked for in its manifest and granted.
        let allowed = Capabilities {
            packages: live
                .allowed
                .asked
                .packages
                .iter()
                .filter(|one| live.allowed.granted.may_install(&one.name))
                .cloned()
                .collect(),
            ..Capabilities::default()
        };
        spec.check(&allowed).map_err(|error| ActionError::Failed(error.to_string()))
    }

    fn change(
        &self,
        live: &Live,
        options: Value,
        blueprint: Blueprint,
        name: AppName,
        team: TeamId,
    ) -> Result<Change, ActionError> {
        let mut config: Config = blueprint.environment;
        for (name, length) in blueprint.secrets {
            let value = secret(length as usize).map_err(internal)?;
            config.insert(name, Secret::new(value));
        }
        let addon = Addon {
            extension: live.row.id.clone(),
            options,
            port: blueprint.port,
            exports: blueprint.exports,
        };
        let (limits, volumes) = (blueprint.limits, blueprint.volumes);
        let addon = Box::new(NewAddon { addon, limits, volumes, config });
        Ok(Change::CreateAddon { name, team, addon })
    }

    /// One backup or restoration of an add-on at a time.
    fn alone(&self, app: &App) -> Result<Lock, ActionError> {
        let taken = self.locks.take(app.id, &app.name, "a backup");
        taken.map_err(|_| {
            let name = &app.name;
            ActionError::Refused(format!("{name} is being backed up or restored; wait for its end"))
        })
    }

    /// The extension of an add-on, if it can be asked.
    fn live_of(&self, app: &App) -> Result<(Arc<Live>, Request), ActionError> {
        let addon = app.settings.addon.as_ref();
        let addon = addon.ok_or_else(|| {
            ActionError::Refused(format!("'{}' is an app, not an add-on", app.name))
        })?;
        let live = self.pipeline.extensions.live(&addon.extension);
        let live = live.filter(|live| live.row.version.manifest.kind == Kind::Addon);
        let live = live.ok_or_else(|| {
            let extension = &addon.extension;
            ActionError::Refused(format!("the extension {extension} is not installed any more"))
        })?;
        Ok((live, request(&app.name, &addon.options)))
    }
}

fn request(name: &AppName, options: &Value) -> Request {
    Request { name: name.to_string(), options: options.to_string(), extra: Vec::new() }
}

fn refused(error: berth_store::StoreError) -> ActionError {
    match error {
        berth_store::StoreError::Refused(_) | berth_store::StoreError::Exists { .. } => {
            ActionError::Refused(error.to_string())
        }
        other => internal(other),
    }
}

/// Letters and digits, each as likely as any other.
fn secret(length: usize) -> Result<String, getrandom::Error> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes)?;
        // The greatest multiple of 62 that a byte holds: what lies above would favour some.
        let even = bytes.iter().filter(|byte| **byte < 248);
        let letters = even.map(|byte| char::from(LETTERS[usize::from(byte % 62)]));
        text.extend(letters.take(length - text.len()));
    }
    Ok(text)
}

/// A task of its own: a client that goes away must not leave something half made.
fn whole<'a, T: Send + 'static>(
    doing: impl Future<Output = Result<T, ActionError>> + Send + 'static,
) -> Doing<'a, T> {
    let begun = tokio::spawn(doing);
    Box::pin(async move { begun.await.map_err(internal)? })
}

impl AddonActions for Addons {
    fn create(&self, ask: NewAddonAsk, by: By) -> Doing<'_, (App, Deployment)> {
        let addons = self.clone();
        whole(async move { Self::create(&addons, ask, by).await })
    }

    fn backup(&self, app: App, by: By) -> Doing<'_, Backup> {
        let addons = self.clone();
        whole(async move { Self::backup(&addons, &app, &by).await })
    }

    fn restore(&self, app: App, from: Backup, by: By) -> Doing<'_, ()> {
        let addons = self.clone();
        whole(async move { Self::restore(&addons, &app, &from, &by).await })
    }

    fn open(&self, backup: Backup) -> Doing<'_, std::fs::File> {
        let blobs = Arc::clone(&self.pipeline.blobs);
        whole(async move {
            let opened = tokio::task::spawn_blocking(move || blobs.get(&backup.digest)).await;
            opened.map_err(internal)?.map_err(internal)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_its_length_and_only_letters_and_digits() {
        for length in [16, 63, 128] {
            let text = secret(length).unwrap();
            assert_eq!(text.len(), length);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
            assert_ne!(text, secret(length).unwrap());
        }
    }
}
