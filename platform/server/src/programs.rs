//! The platform's own programs, copied into the data folder: the agent starts them from there,
//! whatever becomes of the folder they were installed in.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// A program is missing or cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// A part of the installation is not there.
    #[error("{0} is missing; berthd expects it beside itself (`cargo xtask build` lays it out)")]
    Missing(PathBuf),
    /// The file system refused.
    #[error("cannot copy {from} to {to}")]
    Copy {
        /// The installed file.
        from: PathBuf,
        /// Its copy.
        to: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The copied programs of one build.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Names this very set of files.
    pub build_id: String,
    /// `DATA/bin/<build id>`.
    pub folder: PathBuf,
}

/// Git runs a hook by the name of its file; the program looks at the name it was called by.
const HOOK: &str = "proc-receive";

impl Programs {
    /// Copies what is installed beside this program, unless it was copied before.
    ///
    /// # Errors
    /// An incomplete installation, and what the file system refuses.
    pub fn install(data: &Path) -> Result<Self, ProgramsError> {
        let own = std::env::current_exe().map_err(|source| ProgramsError::Copy {
            from: PathBuf::from("berthd"),
            to: data.join("bin"),
            source,
        })?;
        let installed = own.parent().unwrap_or(Path::new("/")).to_owned();
        let mut files = vec![
            (own, PathBuf::from("berthd")),
            (installed.join("berth-agent"), PathBuf::from("berth-agent")),
            (installed.join("berth-init"), PathBuf::from("berth-init")),
            (installed.join("berth-init"), Path::new("hooks").join(HOOK)),
        ];
        files.extend(buildpacks(&installed.join("buildpacks"))?);
        let build_id = build_id(&files)?;
        let folder = data.join("bin").join(&build_id);
        if !folder.exists() {
            copy_all(&files, &folder)?;
        }
        Ok(Self { build_id, folder })
    }

    /// The buildpacks that ship with this build: id and component.
    ///
    /// # Errors
    /// When they are gone.
    pub fn buildpacks(&self) -> Result<Vec<(String, PathBuf)>, ProgramsError> {
        let found = buildpacks(&self.folder.join("buildpacks"))?;
        Ok(found
            .into_iter()
            .filter_map(|(from, _)| {
                let id = from.file_stem()?.to_str()?.to_owned();
                Some((id, from))
            })
            .collect())
    }
}

fn buildpacks(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, ProgramsError> {
    let listed = fs::read_dir(folder).map_err(|_| ProgramsError::Missing(folder.to_owned()))?;
    let mut found: Vec<_> = listed
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "wasm"))
        .filter_map(|path| {
            let name = path.file_name()?.to_owned();
            Some((path, Path::new("buildpacks").join(name)))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Hashes what tells two builds apart without reading hundreds of megabytes at each start.
fn build_id(files: &[(PathBuf, PathBuf)]) -> Result<String, ProgramsError> {
    let mut hash = Sha256::new();
    for (from, name) in files {
        let found = fs::metadata(from).map_err(|_| ProgramsError::Missing(from.clone()))?;
        hash.update(name.as_os_str().as_encoded_bytes());
        for number in [found.len().cast_signed(), found.mtime(), found.mtime_nsec()] {
            hash.update(number.to_be_bytes());
        }
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

fn copy_all(files: &[(PathBuf, PathBuf)], folder: &Path) -> Result<(), ProgramsError> {
    // Made beside its place and renamed: a folder that is there is whole.
    let beside = folder.with_extension("new");
    let failed = |from: &Path, to: &Path| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |source| ProgramsError::Copy { from, to, source }
    };
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(folder, &beside)(error));
        }
        _ => {}
    }
    let public = fs::Permissions::from_mode(0o755);
    for (from, name) in files {
        let to = beside.join(name);
        let parent = to.parent().unwrap_or(&beside);
        fs::create_dir_all(parent)
            .and_then(|()| fs::copy(from, &to))
            .and_then(|_| fs::set_permissions(&to, public.clone()))
            .and_then(|()| fs::set_permissions(parent, public.clone()))
            .and_then(|()| fs::File::open(&to)?.sync_all())
            .map_err(failed(from, &to))?;
    }
    fs::set_permissions(&beside, public.clone())
        .and_then(|()| fs::set_permissions(folder.parent().unwrap_or(folder), public))
        .and_then(|()| fs::rename(&beside, folder))
        .map_err(failed(&beside, folder))
}
