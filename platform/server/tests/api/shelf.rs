//! What stands behind the operations on extensions in these tests: it does to the store what the
//! registry would do, and runs nothing. The registry itself has tests of its own.

use std::fs::File;
use std::future::Future;
use std::io::{Seek, Write};

use berth_api::{ExtensionPage, PagePlace, ViewBlock};
use berth_extensions::extension_manifest;
use berth_model::extension::{ExtensionId, Grant};
use berth_model::{AppId, Digest};
use berth_store::{By, Extension, ExtensionState, ExtensionVersion, Store};
use berthd::extensions::{Choice, ExtensionError, Health, PanelOf, Review};
use berthd::http::{Deciding, ExtensionActions};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) struct Shelf {
    store: Store,
}

/// A component of nothing but a manifest.
pub(crate) fn component(id: &str, secret: &str) -> Vec<u8> {
    let manifest = format!(
        "[extension]\nid = \"{id}\"\nversion = \"1.0.0\"\nkind = \"hook\"\n\
         api = \"berth:hook@0.1.0\"\n[capabilities]\nsecrets = [{{ name = \"{secret}\" }}]\n"
    );
    let name = b"berth:extension";
    let mut bytes = b"\0asm\x0d\0\x01\0\0".to_vec();
    let length = 1 + name.len() + manifest.len();
    bytes.extend([u8::try_from(length & 0x7f).unwrap() | 0x80, u8::try_from(length >> 7).unwrap()]);
    bytes.push(u8::try_from(name.len()).unwrap());
    bytes.extend(name);
    bytes.extend(manifest.as_bytes());
    bytes
}

fn version(component: &[u8]) -> Result<ExtensionVersion, ExtensionError> {
    let manifest = extension_manifest(component)?;
    Ok(ExtensionVersion {
        component: Digest::from_sha256(Sha256::digest(component).into()),
        manifest,
    })
}

impl Shelf {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    fn edit(
        &self,
        id: ExtensionId,
        by: By,
        change: impl FnOnce(Extension) -> Extension + Send + 'static,
    ) -> Deciding<'_, Extension> {
        doing(async move {
            let row = self.store.extension(&id).await?;
            let row = change(row.ok_or(ExtensionError::NotFound(id))?);
            self.store.put_extension(&row, &by).await?;
            Ok(row)
        })
    }
}

fn doing<'a, T>(
    doing: impl Future<Output = Result<T, ExtensionError>> + Send + 'a,
) -> Deciding<'a, T> {
    Box::pin(doing)
}

impl ExtensionActions for Shelf {
    fn review(&self, component: Vec<u8>) -> Deciding<'_, Review> {
        doing(async move {
            let ExtensionVersion { component, manifest } = version(&component)?;
            Ok(Review {
                component,
                hash: "0123456789abcdef".to_owned(),
                lines: manifest.capabilities.lines(),
                beyond: Vec::new(),
                installed: None,
                manifest,
            })
        })
    }

    fn install(&self, bytes: Vec<u8>, choice: Choice, by: By) -> Deciding<'_, (Extension, bool)> {
        doing(async move {
            let version = version(&bytes)?;
            let asked = version.manifest.capabilities.clone();
            let row = Extension {
                id: version.manifest.id.clone(),
                grant: Grant { asked: asked.clone(), granted: asked },
                version,
                config: choice.config.unwrap_or_else(|| json!({})),
                apps: choice.apps,
                state: ExtensionState::Active,
                waiting: None,
                seen: 0,
                installed_at_ms: by.at_ms,
                changed_at_ms: by.at_ms,
            };
            self.store.put_extension(&row, &by).await?;
            Ok((row, true))
        })
    }

    fn component(&self, digest: Digest) -> Deciding<'_, (File, u64)> {
        doing(async move {
            // It kept nothing but what the tests install.
            let bytes = component("test.hook", "token");
            assert_eq!(Digest::from_sha256(Sha256::digest(&bytes).into()), digest);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            file.rewind().unwrap();
            Ok((file, bytes.len() as u64))
        })
    }

    fn grant(&self, id: ExtensionId, _: Choice, by: By) -> Deciding<'_, Extension> {
        self.edit(id, by, |row| row)
    }

    fn configure(&self, id: ExtensionId, config: Value, by: By) -> Deciding<'_, Extension> {
        self.edit(id, by, |row| Extension { config, ..row })
    }

    fn set_apps(
        &self,
        id: ExtensionId,
        apps: Option<Vec<AppId>>,
        by: By,
    ) -> Deciding<'_, Extension> {
        self.edit(id, by, |row| Extension { apps, ..row })
    }

    fn set_secret(
        &self,
        id: ExtensionId,
        name: String,
        value: Option<String>,
        by: By,
    ) -> Deciding<'_, ()> {
        doing(async move {
            Ok(self.store.set_extension_secret(&id, &name, value.as_deref(), &by).await?)
        })
    }

    fn disable(&self, id: ExtensionId, by: By) -> Deciding<'_, Extension> {
        self.edit(id, by, |row| Extension { state: ExtensionState::Disabled, ..row })
    }

    fn disable_all(&self, by: By) -> Deciding<'_, Vec<ExtensionId>> {
        doing(async move {
            let mut disabled = Vec::new();
            for row in self.store.extensions().await? {
                disabled.push(self.disable(row.id, by.clone()).await?.id);
            }
            Ok(disabled)
        })
    }

    fn resume(&self, id: ExtensionId, by: By) -> Deciding<'_, Extension> {
        self.edit(id, by, |row| Extension { state: ExtensionState::Active, ..row })
    }

    fn remove(&self, id: ExtensionId, by: By) -> Deciding<'_, bool> {
        doing(async move { Ok(self.store.remove_extension(&id, &by).await?) })
    }

    fn replay(&self, id: ExtensionId, event: Option<i64>) -> Deciding<'_, u64> {
        doing(async move { Ok(self.store.replay_deliveries(&id, event, super::NOW_MS).await?) })
    }

    fn pages(&self, _: ExtensionId) -> Deciding<'_, Vec<ExtensionPage>> {
        let (id, title) = ("owner".to_owned(), "Owner".to_owned());
        doing(async { Ok(vec![ExtensionPage { id, title, place: PagePlace::App }]) })
    }

    fn page(
        &self,
        _: ExtensionId,
        _: String,
        app: Option<PanelOf>,
    ) -> Deciding<'_, Vec<ViewBlock>> {
        doing(async move { Ok(vec![ViewBlock::Code { text: app.unwrap().state }]) })
    }

    fn health(&self, _: &ExtensionId) -> Option<Health> {
        None
    }

    fn prometheus(&self) -> String {
        String::new()
    }
}
