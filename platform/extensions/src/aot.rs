//! Compiled components: the cache, its authentication, and the way into memory.
//!
//! A compiled component is native code, which the engine does not authenticate. So every file of
//! the cache ends with what it was compiled from and for, and a MAC over all of it. A file is
//! verified and then used through the same descriptor; whatever does not match is compiled again,
//! and is never an error. Compiling itself happens elsewhere, in the bounded child whose body is
//! [`compile`]; code that came from anywhere but this cache is never loaded.

mod compile;
mod seal;

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use berth_container::Engine as EngineKind;
use berth_model::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

pub use compile::{CompileError, compile, component_bytes_max};
pub use seal::MacKey;

use crate::engine::EngineError;
use seal::{Origin, environment};

/// Largest compiled component; some three to five times the component itself.
const CODE_BYTES_MAX: u64 = 512 * 1024 * 1024;
const SUFFIX: &str = "code";

/// The cache failed, or the compiler did.
#[derive(Debug, thiserror::Error)]
pub enum AotError {
    /// The folder cannot be used.
    #[error("cannot {action} in the cache of compiled components, {path}")]
    Folder {
        /// What was tried.
        action: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The compiler refused the component or did not finish.
    #[error("component {} was not compiled: {reason}", .component.short())]
    Compiler {
        /// Which component.
        component: Digest,
        /// What the compiler said.
        reason: String,
    },
    /// The settings are refused on this machine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Code that cannot be brought into memory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine refuses the file.
    #[error("the compiled component cannot be mapped: {0}")]
    Map(String),
    /// The component does not fit the world it is used for.
    #[error("{0}")]
    Link(String),
}

/// A compiled component that was verified: an open, read-only file that nobody writes to.
#[derive(Debug)]
pub struct Code {
    file: File,
}

impl Code {
    /// A descriptor whose sender verified it; only the control process may be believed.
    pub(crate) fn vouched_for(descriptor: OwnedFd) -> Self {
        Self { file: File::from(descriptor) }
    }

    /// Maps the file, privately and read-only.
    pub(crate) fn map(&self, engine: &Engine) -> Result<Component, LoadError> {
        // The very file that was verified, whatever its name means by now.
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        #[expect(
            unsafe_code,
            reason = "the file is what `compile` gave, which its MAC proves; it is mode 0444, was \
                      renamed into a folder that only the control process writes to, and is never \
                      written again"
        )]
        let mapped = unsafe { Component::deserialize_file(engine, path) };
        mapped.map_err(|error| LoadError::Map(format!("{error:#}")))
    }
}

impl AsFd for Code {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The cache of compiled components in one folder, of which this process is the only writer.
pub struct AotCache {
    folder: PathBuf,
    key: MacKey,
    extensions: [u8; 32],
    apps: [u8; 32],
    /// One compilation at a time: each uses all processors by itself.
    compiling: tokio::sync::Mutex<()>,
}

impl AotCache {
    /// The cache in `folder`, which exists and is the caller's alone to write to. `build` names
    /// the build of the host programs; code of another build is not used.
    ///
    /// # Errors
    /// `Engine` when this machine cannot run the engine at all.
    pub fn open(folder: impl Into<PathBuf>, key: MacKey, build: &str) -> Result<Self, AotError> {
        Ok(Self {
            folder: folder.into(),
            key,
            extensions: environment(EngineKind::Extensions, build)?,
            apps: environment(EngineKind::Apps, build)?,
            compiling: tokio::sync::Mutex::new(()),
        })
    }

    /// The compiled form of a component. Where there is none, `run_compiler` is called: it gives
    /// the component's bytes to [`compile`] in a bounded child and its output to the descriptor.
    ///
    /// # Errors
    /// `Compiler` with what `run_compiler` said; `Folder` when the cache cannot be written.
    pub async fn code<F, Fut, E>(
        &self,
        kind: EngineKind,
        component: Digest,
        run_compiler: F,
    ) -> Result<Code, AotError>
    where
        F: FnOnce(OwnedFd) -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        let origin = Origin { kind, component, environment: *self.environment(kind) };
        let path = self.folder.join(origin.file_name());
        if let Some(code) = self.cached(&path, &origin).await {
            return Ok(code);
        }
        let _only_one = self.compiling.lock().await;
        // Another caller may just have compiled it.
        if let Some(code) = self.cached(&path, &origin).await {
            return Ok(code);
        }
        let failed =
            |action| move |source| AotError::Folder { action, path: self.folder.clone(), source };
        let fresh = tempfile::Builder::new()
            .prefix("new-")
            .tempfile_in(&self.folder)
            .map_err(failed("make a file"))?;
        let out = fresh.as_file().try_clone().map_err(failed("make a file"))?;
        run_compiler(out.into())
            .await
            .map_err(|reason| AotError::Compiler { component, reason: reason.to_string() })?;
        let key = self.key.clone();
        let sealed = blocking(move || {
            let length = fresh.as_file().metadata()?.len();
            if length == 0 || length > CODE_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the compiler gave {length} bytes, 1 to {CODE_BYTES_MAX} are expected"),
                ));
            }
            seal::seal(
                &mut File::options().read(true).append(true).open(fresh.path())?,
                &origin,
                &key,
            )?;
            fresh.as_file().set_permissions(Permissions::from_mode(0o444))?;
            let read_only = File::open(fresh.path())?;
            fresh.persist(&path).map_err(|error| error.error)?;
            Ok(Code { file: read_only })
        });
        sealed.await.map_err(failed("keep a compiled component"))
    }

    /// Removes what belongs to none of the components, or was compiled for other programs or an
    /// older engine. Gives the number of files removed.
    ///
    /// # Errors
    /// `Folder`.
    pub async fn collect(&self, live: BTreeSet<Digest>) -> Result<usize, AotError> {
        // Not while a file is being made.
        let _only_one = self.compiling.lock().await;
        let folder = self.folder.clone();
        let keep: BTreeSet<String> = live
            .into_iter()
            .flat_map(|component| {
                [EngineKind::Extensions, EngineKind::Apps].map(|kind| {
                    Origin { kind, component, environment: *self.environment(kind) }.file_name()
                })
            })
            .collect();
        blocking(move || remove_others(&folder, &keep)).await.map_err(|source| AotError::Folder {
            action: "remove files",
            path: self.folder.clone(),
            source,
        })
    }

    fn environment(&self, kind: EngineKind) -> &[u8; 32] {
        match kind {
            EngineKind::Extensions => &self.extensions,
            EngineKind::Apps => &self.apps,
        }
    }

    /// The file at `path` if it is there and is what it must be.
    async fn cached(&self, path: &Path, origin: &Origin) -> Option<Code> {
        let (path, origin, key) = (path.to_path_buf(), origin.clone(), self.key.clone());
        let checked = blocking(move || {
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let genuine = seal::verify(&mut file, &origin, &key)?;
            if !genuine {
                tracing::warn!(file = %path.display(), "a compiled component is not what it was; compiling again");
            }
            Ok(genuine.then_some(Code { file }))
        });
        checked.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a compiled component cannot be read; compiling again");
            None
        })
    }
}

fn remove_others(folder: &Path, keep: &BTreeSet<String>) -> io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let ours = entry.file_name().to_str().is_some_and(|name| {
            let dead = Path::new(name).extension().is_some_and(|end| end == SUFFIX)
                && !keep.contains(name);
            dead || name.starts_with("new-")
        });
        if ours {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// File work of milliseconds, off the workers of the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
