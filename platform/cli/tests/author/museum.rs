//! Components that were built when their interfaces were new still run: `platform/wit/museum`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project::programs;

fn museum() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/museum")
}

#[test]
fn what_was_built_for_a_released_version_is_still_taken_and_still_answers() {
    let cache = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(museum()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let buildpack = folder.join("buildpack.toml").exists();
        let verbs: &[[&str; 2]] =
            if buildpack { &[["buildpack", "test"]] } else { &[["ext", "check"], ["ext", "test"]] };
        for verb in verbs {
            let ran = Command::new(programs().join("berth"))
                .args(verb)
                .arg(&folder)
                .env("XDG_CACHE_HOME", cache.path())
                .output()
                .unwrap();
            let said = [ran.stdout, ran.stderr].concat();
            assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&said));
        }
        seen.insert(name);
    }
    let every = ["addon", "buildpack", "console", "hook", "log-processor", "middleware", "policy"];
    let first: BTreeSet<String> = every.iter().map(|kind| format!("{kind}-0.1.0")).collect();
    assert!(seen.is_superset(&first), "the museum has {seen:?}, not {first:?}");
}
