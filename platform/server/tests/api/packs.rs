//! What stands behind the operations on buildpacks in these tests: it does to the store what the
//! platform's buildpacks would do, and runs nothing. They have tests of their own.

use berth_model::buildpack::{BuildpackGroup, BuildpackManifest};
use berth_model::{BuildpackId, Digest};
use berth_store::{AddedBuildpack, By, Store};
use berthd::buildpacks::{BuildpackError, Order, Origin, Shown};
use berthd::http::{BuildpackActions, Settling};
use sha2::{Digest as _, Sha256};

pub(crate) struct Packs {
    store: Store,
}

/// A manifest alone, which is what these take for a component.
pub(crate) fn component(id: &str) -> Vec<u8> {
    let text = format!(
        "[buildpack]\nid = \"{id}\"\nversion = \"1.0.0\"\napi = \"berth:buildpack@0.1.0\"\n"
    );
    text.into_bytes()
}

impl Packs {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

fn shown(row: AddedBuildpack) -> Shown {
    Shown {
        id: row.manifest.id.to_string(),
        component: row.component,
        origin: Origin::Added,
        added: Some(row),
        broken: None,
    }
}

fn order(groups: &[BuildpackGroup]) -> Order {
    Order { groups: groups.iter().map(ToString::to_string).collect(), set: !groups.is_empty() }
}

impl BuildpackActions for Packs {
    fn list(&self) -> Settling<'_, Vec<Shown>> {
        Box::pin(async { Ok(self.store.buildpacks().await?.into_iter().map(shown).collect()) })
    }

    fn add(&self, component: Vec<u8>, _: bool, by: By) -> Settling<'_, (Shown, bool)> {
        Box::pin(async move {
            let text = std::str::from_utf8(&component).unwrap();
            let row = AddedBuildpack {
                component: Digest::from_sha256(Sha256::digest(&component).into()),
                manifest: BuildpackManifest::parse(text).unwrap(),
                added_at_ms: by.at_ms,
                changed_at_ms: by.at_ms,
            };
            self.store.put_buildpack(&row, &[], &by).await?;
            Ok((shown(row), true))
        })
    }

    fn remove(&self, id: BuildpackId, by: By) -> Settling<'_, ()> {
        Box::pin(async move {
            let there = self.store.remove_buildpack(&id, &[], &by).await?;
            there.then_some(()).ok_or_else(|| BuildpackError::NotFound(id.to_string()))
        })
    }

    fn order(&self) -> Order {
        order(&[])
    }

    fn set_order(&self, groups: Vec<BuildpackGroup>, by: By) -> Settling<'_, Order> {
        Box::pin(async move {
            self.store.set_buildpack_order(&groups, &by).await?;
            Ok(order(&groups))
        })
    }
}
