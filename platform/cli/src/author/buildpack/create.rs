//! Makes the folder of a new buildpack from the template that this program holds.

use std::path::PathBuf;

use berth_model::BuildpackId;

use super::kit;
use crate::arguments::{BuildpackLanguage, NewBuildpack};
use crate::author::create::{must_be_empty, write};
use crate::failure::Failure;
use crate::output::Output;

/// Every file of a new buildpack.
const FILES: &[(&str, &str)] = &[
    (".gitignore", include_str!("../../../templates/buildpack/gitignore.txt")),
    ("buildpack.toml", include_str!("../../../templates/buildpack/buildpack.toml")),
    ("Cargo.toml", include_str!("../../../templates/buildpack/Cargo.toml.txt")),
    ("README.md", include_str!("../../../templates/buildpack/README.md.txt")),
    ("src/lib.rs", include_str!("../../../templates/buildpack/lib.rs")),
    ("tests/first.toml", include_str!("../../../templates/buildpack/first.toml")),
    ("tests/first/Makefile", include_str!("../../../templates/buildpack/app/Makefile")),
    ("tests/first/web.c", include_str!("../../../templates/buildpack/app/web.c")),
    ("tests/none.toml", include_str!("../../../templates/buildpack/none.toml")),
    ("tests/none/hello.txt", "Nothing that is built with make.\n"),
];

/// Makes the folder; one that is there and not empty is left alone.
pub(super) fn run(new: &NewBuildpack, output: &Output) -> Result<(), Failure> {
    let id: BuildpackId = new.name.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let folder = new.folder.clone().unwrap_or_else(|| PathBuf::from(id.as_str()));
    must_be_empty(&folder)?;
    let BuildpackLanguage::Rust = new.lang;
    for (path, text) in FILES {
        write(&folder.join(path), &text.replace("{{id}}", id.as_str()))?;
    }
    kit::write(&folder)?;
    output.note(&format!(
        "-----> Made {id} in {}\n       next: cd {} && berth buildpack build && berth buildpack test",
        folder.display(),
        folder.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_model::buildpack::BuildpackManifest;

    use super::*;

    #[test]
    fn the_template_is_whole() {
        for (path, text) in FILES {
            let filled = text.replace("{{id}}", "acme-make");
            assert!(!filled.contains("{{") && !filled.is_empty(), "{path}");
            if *path == "buildpack.toml" {
                assert_eq!(BuildpackManifest::parse(&filled).unwrap().id.as_str(), "acme-make");
            }
        }
    }
}
