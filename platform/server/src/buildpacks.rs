//! The buildpacks of the platform: those that ship with it, and those that operators added.
//!
//! Takes components and the operator's decisions, gives the builder what it builds with. What was
//! added is in the store; here is the compiled and linked form of it. A change is there for the next
//! build; one that is under way ends with what it began with.

mod error;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use berth_build::plan::{Group, Member};
use berth_build::{Builder, Installed, Loaded};
use berth_extensions::buildpack::Buildpacks as Engine;
use berth_extensions::{EngineKind, buildpack_manifest};
use berth_model::buildpack::{BuildpackGroup, BuildpackManifest};
use berth_model::{BuildpackId, Digest};
use berth_store::{AddedBuildpack, By, Store, StoreError};
use sha2::{Digest as _, Sha256};

use crate::compiler::Compiler;
use crate::programs::Programs;

pub use error::BuildpackError;

/// Largest component, bytes.
const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most buildpacks that are added: each of them is asked about every source.
const ADDED_MAX: usize = 32;
/// Most groups of an order.
const GROUPS_MAX: usize = 64;

/// The buildpacks. Cheap to clone.
#[derive(Clone)]
pub struct Buildpacks {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    compiler: Compiler,
    engine: Engine,
    shipped: Vec<Loaded>,
    /// What was added, as it can be called, or why it cannot.
    added: Mutex<BTreeMap<BuildpackId, Result<Loaded, String>>>,
    builder: Builder,
    /// Changes come one after the other.
    changing: tokio::sync::Mutex<()>,
}

/// Where a buildpack comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It ships with Berth.
    Shipped,
    /// An operator added it.
    Added,
    /// An operator added it in the place of one that ships with Berth.
    Replaced,
}

/// A buildpack as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub id: String,
    /// Its component.
    pub component: Digest,
    /// Where it comes from.
    pub origin: Origin,
    /// What was added, with its manifest.
    pub added: Option<AddedBuildpack>,
    /// Why it cannot be called.
    pub broken: Option<String>,
}

/// The groups in which buildpacks are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Each as it is written: `node,static?`.
    pub groups: Vec<String>,
    /// Whether an operator set them.
    pub set: bool,
}

/// Loads the buildpacks that ship with this build.
///
/// # Errors
/// When one is missing, or cannot be compiled or linked.
pub async fn shipped(
    engine: &Engine,
    programs: &Programs,
    compiler: &Compiler,
) -> anyhow::Result<Vec<Loaded>> {
    let mut shipped = Vec::new();
    for (id, path) in programs.buildpacks()? {
        let wasm = std::fs::File::open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let blobs = Arc::clone(&compiler.blobs);
        let (digest, _) =
            tokio::task::spawn_blocking(move || blobs.put(wasm, COMPONENT_BYTES_MAX)).await??;
        let code = compiler
            .code(EngineKind::Extensions, digest)
            .await
            .with_context(|| format!("the buildpack {id} cannot be compiled"))?;
        let component =
            engine.load(&code).with_context(|| format!("the buildpack {id} cannot be used"))?;
        shipped.push(Loaded { id, digest, component: Arc::new(component) });
    }
    Ok(shipped)
}

impl Buildpacks {
    /// Those of a platform; what was added comes with [`Buildpacks::load`].
    pub fn new(
        store: Store,
        compiler: Compiler,
        engine: Engine,
        shipped: Vec<Loaded>,
        builder: Builder,
    ) -> Self {
        let inner = Inner {
            store,
            compiler,
            engine,
            shipped,
            added: Mutex::default(),
            builder,
            changing: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Brings what was added to the builder. What cannot be called is passed over by builds, which
    /// say so.
    ///
    /// # Errors
    /// What the database says.
    pub async fn load(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.inner.changing.lock().await;
        for row in self.inner.store.buildpacks().await? {
            let id = row.manifest.id;
            let loaded = self.link(&id, row.component).await.map_err(|error| {
                tracing::error!(buildpack = %id, "not loaded: {error}");
                format!("the buildpack '{id}' cannot be used: {error}")
            });
            self.added().insert(id, loaded);
        }
        self.publish().await
    }

    fn added(&self) -> MutexGuard<'_, BTreeMap<BuildpackId, Result<Loaded, String>>> {
        self.inner.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ships(&self, id: &BuildpackId) -> Option<&Loaded> {
        self.inner.shipped.iter().find(|loaded| loaded.id == id.as_str())
    }

    /// A component that was kept, ready to be called.
    async fn link(&self, id: &BuildpackId, digest: Digest) -> Result<Loaded, BuildpackError> {
        let code = self.inner.compiler.code(EngineKind::Extensions, digest).await?;
        let component = Arc::new(self.inner.engine.load(&code)?);
        Ok(Loaded { id: id.to_string(), digest, component })
    }

    /// Gives the builder what holds for the builds to come.
    async fn publish(&self) -> Result<(), StoreError> {
        let rows = self.inner.store.buildpacks().await?;
        let order = self.inner.store.buildpack_order().await?;
        let mut installed = Installed::default();
        {
            let added = self.added();
            for row in &rows {
                match added.get(&row.manifest.id) {
                    Some(Ok(loaded)) => installed.buildpacks.push(loaded.clone()),
                    Some(Err(reason)) => {
                        installed.broken.push((row.manifest.id.to_string(), reason.clone()));
                    }
                    None => {}
                }
            }
        }
        let there = installed.ids();
        let shipped = self.inner.shipped.iter().filter(|loaded| !there.contains(&loaded.id));
        installed.buildpacks.extend(shipped.cloned());
        installed.order = order.iter().map(group).collect();
        self.inner.builder.install(installed);
        Ok(())
    }

    /// All of them: what was added, the newest first, then what ships with Berth.
    ///
    /// # Errors
    /// What the database says.
    pub async fn list(&self) -> Result<Vec<Shown>, BuildpackError> {
        let rows = self.inner.store.buildpacks().await?;
        let mut all: Vec<Shown> = rows.into_iter().map(|row| self.shown(row)).collect();
        for loaded in &self.inner.shipped {
            if all.iter().all(|shown| shown.id != loaded.id) {
                all.push(Shown {
                    id: loaded.id.clone(),
                    component: loaded.digest,
                    origin: Origin::Shipped,
                    added: None,
                    broken: None,
                });
            }
        }
        Ok(all)
    }

    fn shown(&self, row: AddedBuildpack) -> Shown {
        let id = &row.manifest.id;
        let origin = if self.ships(id).is_some() { Origin::Replaced } else { Origin::Added };
        let broken = self.added().get(id).and_then(|loaded| loaded.as_ref().err().cloned());
        Shown { id: id.to_string(), component: row.component, origin, broken, added: Some(row) }
    }

    /// Adds a buildpack; with `replace`, also in the place of another one of its id. Gives it, and
    /// whether its id is new.
    ///
    /// # Errors
    /// As [`BuildpackError`] says; nothing of it is installed then.
    pub async fn add(
        &self,
        component: Vec<u8>,
        replace: bool,
        by: By,
    ) -> Result<(Shown, bool), BuildpackError> {
        let (digest, manifest) = read(&component)?;
        let id = manifest.id.clone();
        let _one_at_a_time = self.inner.changing.lock().await;
        let before = self.inner.store.buildpack(&id).await?;
        match &before {
            Some(row) if row.component == digest && self.works(&id) => {
                return Ok((self.shown(row.clone()), false));
            }
            Some(row) if !replace && row.component != digest => {
                return Err(BuildpackError::Taken { id, version: row.manifest.version.clone() });
            }
            None if !replace && self.ships(&id).is_some() => {
                return Err(BuildpackError::Ships(id));
            }
            None if self.added().len() >= ADDED_MAX => return Err(BuildpackError::Full(ADDED_MAX)),
            _ => {}
        }
        let order = match &before {
            Some(_) => self.inner.store.buildpack_order().await?,
            None => self.order_with(&id).await?,
        };
        let _kept = self.inner.compiler.blobs.lease([digest]);
        self.keep(component).await?;
        let loaded = self.link(&id, digest).await?;
        let row = AddedBuildpack {
            component: digest,
            manifest,
            added_at_ms: before.as_ref().map_or(by.at_ms, |row| row.added_at_ms),
            changed_at_ms: by.at_ms,
        };
        self.inner.store.put_buildpack(&row, &order, &by).await?;
        self.added().insert(id, Ok(loaded));
        self.publish().await?;
        Ok((self.shown(row), before.is_none()))
    }

    fn works(&self, id: &BuildpackId) -> bool {
        matches!(self.added().get(id), Some(Ok(_)))
    }

    /// The order that an operator set, with a buildpack that it does not name tried first.
    async fn order_with(&self, id: &BuildpackId) -> Result<Vec<BuildpackGroup>, BuildpackError> {
        let mut order = self.inner.store.buildpack_order().await?;
        if !order.is_empty() && !order.iter().any(|group| group.names(id)) {
            if order.len() >= GROUPS_MAX {
                return Err(BuildpackError::Order(format!(
                    "it has {GROUPS_MAX} groups, so {id} does not fit; set a shorter one first"
                )));
            }
            order.insert(0, BuildpackGroup::of(id.clone()));
        }
        Ok(order)
    }

    /// Keeps the component as a blob.
    async fn keep(&self, component: Vec<u8>) -> Result<(), BuildpackError> {
        let blobs = Arc::clone(&self.inner.compiler.blobs);
        let put = tokio::task::spawn_blocking(move || {
            blobs.put(std::io::Cursor::new(component), COMPONENT_BYTES_MAX)
        });
        put.await
            .map_err(|error| BuildpackError::Blobs(error.into()))?
            .map_err(|error| BuildpackError::Blobs(error.into()))?;
        Ok(())
    }

    /// Removes a buildpack that was added; where it stood in the place of one that ships with Berth,
    /// that one is there again. Groups of the order that need it go with it.
    ///
    /// # Errors
    /// `NotAdded` for one that ships with Berth, `NotFound`.
    pub async fn remove(&self, id: &BuildpackId, by: By) -> Result<(), BuildpackError> {
        let _one_at_a_time = self.inner.changing.lock().await;
        let mut order = self.inner.store.buildpack_order().await?;
        if self.ships(id).is_none() {
            order = order.iter().filter_map(|group| group.without(id)).collect();
        }
        if !self.inner.store.remove_buildpack(id, &order, &by).await? {
            return Err(match self.ships(id) {
                Some(_) => BuildpackError::NotAdded(id.clone()),
                None => BuildpackError::NotFound(id.to_string()),
            });
        }
        self.added().remove(id);
        Ok(self.publish().await?)
    }

    /// The groups that are tried for an app that names no buildpacks.
    pub fn order(&self) -> Order {
        let installed = self.inner.builder.installed();
        let groups = installed.groups().iter().map(text).collect();
        Order { groups, set: !installed.order.is_empty() }
    }

    /// Sets the groups; with none, the usual ones are tried again.
    ///
    /// # Errors
    /// `Order` names what is wrong.
    pub async fn set_order(
        &self,
        groups: Vec<BuildpackGroup>,
        by: By,
    ) -> Result<Order, BuildpackError> {
        let _one_at_a_time = self.inner.changing.lock().await;
        if groups.len() > GROUPS_MAX {
            return Err(BuildpackError::Order(format!("{GROUPS_MAX} groups are possible")));
        }
        let known = self.inner.builder.installed().ids();
        let mut members = groups.iter().flat_map(BuildpackGroup::members);
        if let Some((id, _)) = members.find(|(id, _)| !known.iter().any(|one| one == id.as_str())) {
            let known = known.join(", ");
            return Err(BuildpackError::Order(format!(
                "there is no buildpack '{id}'; there are {known}"
            )));
        }
        self.inner.store.set_buildpack_order(&groups, &by).await?;
        self.publish().await?;
        Ok(self.order())
    }
}

/// What a component is.
fn read(component: &[u8]) -> Result<(Digest, BuildpackManifest), BuildpackError> {
    if component.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(BuildpackError::TooLarge { bytes_max: COMPONENT_BYTES_MAX });
    }
    let manifest = buildpack_manifest(component)?;
    Ok((Digest::from_sha256(Sha256::digest(component).into()), manifest))
}

fn group(group: &BuildpackGroup) -> Group {
    let member =
        |(id, optional): &(BuildpackId, bool)| Member { id: id.to_string(), optional: *optional };
    Group(group.members().iter().map(member).collect())
}

fn text(group: &Group) -> String {
    let member =
        |member: &Member| format!("{}{}", member.id, if member.optional { "?" } else { "" });
    group.0.iter().map(member).collect::<Vec<_>>().join(",")
}
