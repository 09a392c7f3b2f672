//! Builds and tests again after every change of a source, and puts what passed where a platform
//! finds it.
//!
//! It looks at the files' times and lengths twice a second, so it works on every file system, and
//! never at what a build itself writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::project::Project;
use super::{build, test};
use crate::arguments::DevExtension;
use crate::failure::Failure;
use crate::output::Output;

/// How often it is looked.
const PERIOD: Duration = Duration::from_millis(500);
/// Folders and ends of files that are made by tools, not by people.
const MADE_FOLDERS: [&str; 5] = ["target", "wit", "node_modules", "__pycache__", "venv"];
const MADE_ENDS: [&str; 2] = ["wasm", "new"];
/// More files than an extension has.
const FILES_MAX: usize = 10_000;

type Tree = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Goes on until it is interrupted.
pub(crate) async fn run(options: &DevExtension, output: &Output) -> Result<(), Failure> {
    let mut known = Tree::new();
    loop {
        let now = tree(&options.of.folder)?;
        if now != known {
            // Changes that come while it builds are seen the next time.
            known = now;
            if let Err(failure) = once(options, output).await
                && !failure.is_silent()
            {
                output.note(&failure.to_string());
            }
            output.note("-----> Waiting for a change (Ctrl-C ends it)");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn once(options: &DevExtension, output: &Output) -> Result<(), Failure> {
    let project = Project::open(&options.of.folder)?;
    let component = build::run(&project, output).await?;
    test(&project, None, false, output).await?;
    if let Some(folder) = &options.into {
        let into = folder.join(format!("{}.wasm", project.manifest.id));
        build::replace(&into, &std::fs::read(&component)?)?;
        output.note(&format!("-----> Put into {}", into.display()));
    }
    Ok(())
}

/// Whether a file was written after every source of the folder.
pub(crate) fn is_younger(file: &Path, folder: &Path) -> Result<bool, Failure> {
    let Ok(written) = std::fs::metadata(file).and_then(|file| file.modified()) else {
        return Ok(false);
    };
    Ok(tree(folder)?.values().all(|(changed, _)| changed.is_some_and(|at| at < written)))
}

/// The sources, with what tells a change.
fn tree(folder: &Path) -> Result<Tree, Failure> {
    let mut tree = Tree::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let made = MADE_FOLDERS.contains(&&*name)
                || path.extension().is_some_and(|end| MADE_ENDS.iter().any(|made| end == *made));
            if made || name.starts_with('.') || name == "Cargo.lock" {
                continue;
            }
            // What disappears meanwhile is seen the next time.
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                open.push(path);
            } else if tree.len() < FILES_MAX {
                tree.insert(path, (metadata.modified().ok(), metadata.len()));
            }
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_writes_is_no_change() {
        let folder = std::env::temp_dir().join(format!("berth-dev-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("src")).unwrap();
        std::fs::create_dir_all(folder.join("target")).unwrap();
        std::fs::write(folder.join("src/lib.rs"), "one").unwrap();
        let before = tree(&folder).unwrap();
        for made in ["target/x", "name.wasm", "name.wasm.new", "Cargo.lock"] {
            std::fs::write(folder.join(made), "made").unwrap();
        }
        let built = tree(&folder).unwrap();
        // Two writes may have the same time.
        let source = std::fs::File::options().append(true).open(folder.join("src/lib.rs")).unwrap();
        let now = SystemTime::now();
        source.set_modified(now - Duration::from_secs(10)).unwrap();
        let younger = is_younger(&folder.join("name.wasm"), &folder).unwrap();
        source.set_modified(now + Duration::from_secs(10)).unwrap();
        let older = !is_younger(&folder.join("name.wasm"), &folder).unwrap();
        std::fs::write(folder.join("src/lib.rs"), "three").unwrap();
        let changed = tree(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(before, built);
        assert!(younger && older);
        assert_ne!(before, changed);
    }
}
