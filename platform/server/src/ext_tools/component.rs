//! A component from a file: judged, compiled, linked. Compiled code is kept for the next time.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use berth_extensions::aot::component_bytes_max;
use berth_extensions::powers::Allowed;
use berth_extensions::{AotCache, Code, EngineKind, Extensions, Limits, MacKey, check_extension};
use berth_model::Digest;
use berth_model::extension::ExtensionManifest;
use sha2::{Digest as _, Sha256};

/// Compiled components that are kept: those of an interpreter have some 50 MB each.
const COMPILED_MAX: usize = 12;

/// A component that was judged.
pub(super) struct Component {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) manifest: ExtensionManifest,
    pub(super) limits: Limits,
}

impl Component {
    /// Reads and judges a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let (bytes, digest) = bounded(path)?;
        let manifest = check_extension(&bytes).with_context(|| path.display().to_string())?;
        let limits = Limits::asked(manifest.kind, &manifest.limits);
        Ok(Self { bytes, digest, manifest, limits })
    }

    /// All that the manifest asks for.
    pub(super) fn allowed(&self) -> Arc<Allowed> {
        Arc::new(Allowed::all(self.manifest.capabilities.clone()))
    }

    /// The machine code.
    pub(super) async fn code(&self) -> Result<Code> {
        compiled(self.bytes.clone(), self.digest).await
    }

    /// The configuration that a platform would give, with the schema's defaults.
    pub(super) fn config(&self, set: &serde_json::Value) -> Result<Arc<serde_json::Value>> {
        let mut config = set.as_object().cloned().unwrap_or_default();
        let properties = self.manifest.config_schema["properties"].as_object();
        for (name, property) in properties.into_iter().flatten() {
            if let Some(default) = property.get("default") {
                config.entry(name).or_insert_with(|| default.clone());
            }
        }
        let config = serde_json::Value::Object(config);
        let schema = jsonschema::validator_for(&self.manifest.config_schema)
            .context("the manifest's config.schema is not a JSON Schema")?;
        if let Err(error) = schema.validate(&config) {
            bail!("the configuration is not what config.schema allows: {error}");
        }
        Ok(Arc::new(config))
    }
}

/// The bytes of a component's file, and their digest.
pub(crate) fn bounded(path: &Path) -> Result<(Vec<u8>, Digest)> {
    let cannot = || format!("cannot read {}", path.display());
    let max = component_bytes_max(EngineKind::Extensions);
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(cannot)?;
    file.take(max + 1).read_to_end(&mut bytes).with_context(cannot)?;
    if bytes.len() as u64 > max {
        bail!("{} is larger than {} MiB, which is the limit", path.display(), max >> 20);
    }
    let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
    Ok((bytes, digest))
}

/// The machine code of a component, kept for the next time.
pub(crate) async fn compiled(bytes: Vec<u8>, digest: Digest) -> Result<Code> {
    let folder = folder()?;
    let cache = AotCache::open(&folder, key(&folder)?, env!("CARGO_PKG_VERSION"))?;
    let compiled = cache.code(EngineKind::Extensions, digest, |out| async move {
        let compile = move || {
            berth_extensions::compile(EngineKind::Extensions, &bytes[..], File::from(out))
                .map_err(|error| error.to_string())
        };
        tokio::task::spawn_blocking(compile).await.map_err(|error| error.to_string())?
    });
    let code = compiled.await?;
    forget_old(&folder);
    Ok(code)
}

/// The engine.
pub(super) fn engine() -> Result<Extensions> {
    Ok(Extensions::new()?)
}

/// Compiled code of this user.
fn folder() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .context("set HOME or XDG_CACHE_HOME: compiled code is kept there")?;
    let folder = cache.join("berth/compiled");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Removes all but the newest: what was built before the last change is not asked for again.
fn forget_old(folder: &Path) {
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut compiled: Vec<_> = files
        .filter(|file| file.path().extension().is_some_and(|end| end == "code"))
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())))
        .collect();
    compiled.sort_unstable();
    let old = compiled.len().saturating_sub(COMPILED_MAX);
    for (_, path) in compiled.into_iter().take(old) {
        // Another program may have removed it already.
        let _ = std::fs::remove_file(path);
    }
}

/// The key of the folder, made with it: what others put there is compiled again.
fn key(folder: &Path) -> Result<MacKey> {
    let path = folder.join("key");
    let read = || -> Option<[u8; 32]> { std::fs::read(&path).ok()?.try_into().ok() };
    if let Some(key) = read() {
        return Ok(MacKey::new(key));
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    // Another program may have made one meanwhile: the first stays.
    let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
    if made.and_then(|mut file| file.write_all(&key)).is_err()
        && let Some(key) = read()
    {
        return Ok(MacKey::new(key));
    }
    Ok(MacKey::new(key))
}
