//! The cases of the extensions that ship with Berth, run by the real sandbox.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project::programs;

#[test]
fn the_cases_of_the_extensions_that_ship_with_berth_pass() {
    let cache = tempfile::tempdir().unwrap();
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let mut tested = Vec::new();
    for entry in std::fs::read_dir(plugins).unwrap() {
        let folder = entry.unwrap().path();
        let cases: Vec<PathBuf> = std::fs::read_dir(folder.join("tests"))
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        let cases: Vec<_> =
            cases.iter().filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
        if cases.is_empty() {
            continue;
        }
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let component = programs().join("plugins").join(&name).with_extension("wasm");
        assert!(component.is_file(), "{} is missing: cargo xtask build", component.display());
        let ran = Command::new(programs().join("berthd"))
            .arg("ext-test")
            .arg(component)
            .args(&cases)
            .env("XDG_CACHE_HOME", cache.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(ran.status.success(), "{name}: {}{}", text(&ran.stdout), text(&ran.stderr));
        let all = cases.len();
        let told = format!("{all} of {all} cases passed");
        assert!(text(&ran.stdout).contains(&told), "{name}: {}", text(&ran.stdout));
        tested.push(name);
    }
    tested.sort();
    assert_eq!(tested, ["postgresql", "redis", "service-status"]);
}
