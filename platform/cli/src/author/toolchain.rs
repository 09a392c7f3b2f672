//! The tools of languages, fetched once per user and version with the language's own package
//! manager, from the registry that it is set to.

use std::fs::File;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::build;
use crate::failure::Failure;
use crate::output::Output;

/// Made last: a folder without it was left half filled.
const COMPLETE: &str = ".complete";

/// A program on the PATH, or how to get it.
pub(crate) fn program(name: &str, how: &str) -> Result<PathBuf, Failure> {
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| Failure::failed(format!("`{name}` is not on the PATH")).with_hint(how))
}

/// The folder of a tool of a version, filled by `steps` the first time. The commands run one
/// after another; another `berth` that wants the same tool waits.
pub(crate) async fn folder(
    name: &str,
    output: &Output,
    steps: impl FnOnce(&Path) -> Vec<Command>,
) -> Result<PathBuf, Failure> {
    let all = cache()?;
    let folder = all.join(name);
    if folder.join(COMPLETE).is_file() {
        return Ok(folder);
    }
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot use the folder of tools {}: {error}", all.display()))
    };
    std::fs::create_dir_all(&all).map_err(failed)?;
    let lock = File::create(all.join(format!("{name}.lock"))).map_err(failed)?;
    let locked = lock.try_clone().map_err(failed)?;
    let waiting = tokio::task::spawn_blocking(move || locked.lock());
    waiting.await.map_err(|error| Failure::failed(error.to_string()))?.map_err(failed)?;
    if folder.join(COMPLETE).is_file() {
        return Ok(folder);
    }
    output.note(&format!("-----> Fetching {name} into {}, once", folder.display()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(failed)?;
    }
    std::fs::create_dir_all(&folder).map_err(failed)?;
    for mut step in steps(&folder) {
        build::tool(&format!("Fetching {name}"), &mut step, output).await?;
    }
    std::fs::write(folder.join(COMPLETE), "").map_err(failed)?;
    Ok(folder)
}

/// `$XDG_CACHE_HOME/berth/tools` or `~/.cache/berth/tools`.
fn cache() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("berth/tools"))
        .ok_or_else(|| Failure::failed("set HOME or XDG_CACHE_HOME: tools are kept there"))
}
