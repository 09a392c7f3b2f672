//! The kit that buildpacks are written with: the one that those use which ship with Berth, and its
//! interfaces, as a crate in the buildpack's own folder.

use std::path::Path;

use crate::author::wit::put;
use crate::failure::Failure;

/// Where the kit of this source finds its interfaces, and where the copy does.
const WIT_HERE: &str = "../../platform/wit/buildpack";
const WIT_THERE: &str = "wit";

/// Every file of the kit.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../../templates/buildpack/kit.Cargo.toml.txt")),
    ("wit/buildpack.wit", include_str!("../../../../wit/buildpack/buildpack.wit")),
    ("src/lib.rs", include_str!("../../../../../buildpacks/kit/src/lib.rs")),
    ("src/procfile.rs", include_str!("../../../../../buildpacks/kit/src/procfile.rs")),
    ("src/settings.rs", include_str!("../../../../../buildpacks/kit/src/settings.rs")),
    ("src/site.rs", include_str!("../../../../../buildpacks/kit/src/site.rs")),
    ("src/step.rs", include_str!("../../../../../buildpacks/kit/src/step.rs")),
];

/// Writes `kit/`; what is right already keeps its time, so that nothing is built for nothing.
pub(super) fn write(folder: &Path) -> Result<(), Failure> {
    for (path, text) in FILES {
        put(&folder.join("kit").join(path), &text.replace(WIT_HERE, WIT_THERE))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_copy_has_every_file_of_the_kit_and_finds_its_interfaces() {
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../buildpacks/kit/src");
        let there: BTreeSet<String> = std::fs::read_dir(kit)
            .unwrap()
            .map(|entry| format!("src/{}", entry.unwrap().file_name().to_str().unwrap()))
            .collect();
        let copied = FILES.iter().map(|(path, _)| (*path).to_owned());
        let copied: BTreeSet<String> = copied.filter(|path| path.starts_with("src/")).collect();
        assert_eq!(copied, there);
        let (_, library) = FILES.iter().find(|(path, _)| *path == "src/lib.rs").unwrap();
        assert_eq!(library.matches(WIT_HERE).count(), 1);
    }
}
