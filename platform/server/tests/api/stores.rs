//! What stands behind the operations on add-ons in these tests: it does to the store what the
//! platform's add-ons would do, and runs nothing. They have tests of their own.

use std::fs::File;
use std::io::{Seek, Write};

use berth_model::addon::Addon;
use berth_model::image::Image;
use berth_model::plan::{Change, Config, NewAddon};
use berth_model::{App, Deployment, Digest, Manifest, Process, Runtime};
use berth_store::{Backup, By, Store};
use berthd::http::{ActionError, AddonActions, Doing, NewAddonAsk};
use serde_json::json;
use sha2::{Digest as _, Sha256};

const HELD: &[u8] = b"what it held";

pub(crate) struct Stores {
    store: Store,
}

impl Stores {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

fn image() -> Image {
    let process =
        Process { command: vec!["serve".into()], working_dir: "/workspace".into(), check: None };
    Image {
        digest: Digest::from_sha256([9; 32]),
        layers: Vec::new(),
        env: Default::default(),
        manifest: Manifest {
            processes: [("web".parse().unwrap(), process)].into(),
            release: None,
            runtime: Runtime::Container,
            formation: Default::default(),
            wasm: Default::default(),
        },
    }
}

fn failed(error: berth_store::StoreError) -> ActionError {
    match error {
        berth_store::StoreError::Refused(_) => ActionError::Refused(error.to_string()),
        other => ActionError::Internal(Box::new(other)),
    }
}

impl AddonActions for Stores {
    fn create(&self, ask: NewAddonAsk, by: By) -> Doing<'_, (App, Deployment)> {
        Box::pin(async move {
            let addon = Addon {
                extension: ask.kind.parse().unwrap(),
                options: json!({}),
                port: 6379,
                exports: vec![("CACHE_URL".parse().unwrap(), "redis://${host}".to_owned())],
            };
            let addon = Box::new(NewAddon {
                addon,
                limits: Default::default(),
                volumes: Vec::new(),
                config: Config::new(),
            });
            let change = Change::CreateAddon { name: ask.name, team: ask.team, addon };
            let made = self.store.change(None, &change, None, &by).await.map_err(failed)?;
            let image = image();
            self.store.put_image(&image, by.at_ms).await.map_err(failed)?;
            let manifest = Box::new(image.manifest.clone());
            let release = Change::ReleaseAddon { image: image.digest, manifest };
            let by = By { once: None, ..by };
            let done = self.store.change(Some(made.app.id), &release, None, &by).await;
            let done = done.map_err(failed)?;
            Ok((done.app, done.deployment.unwrap()))
        })
    }

    fn backup(&self, addon: App, by: By) -> Doing<'_, Backup> {
        Box::pin(async move {
            let extension = addon.settings.addon.unwrap().extension;
            let held = (Digest::from_sha256(Sha256::digest(HELD).into()), HELD.len() as u64);
            let made = self.store.create_backup(addon.id, &extension, held, &by).await;
            Ok(made.map_err(failed)?.unwrap())
        })
    }

    fn restore(&self, addon: App, from: Backup, by: By) -> Doing<'_, ()> {
        Box::pin(
            async move { self.store.backup_restored(addon.id, &from, &by).await.map_err(failed) },
        )
    }

    fn open(&self, _: Backup) -> Doing<'_, File> {
        Box::pin(async move {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(HELD).unwrap();
            file.rewind().unwrap();
            Ok(file)
        })
    }
}
