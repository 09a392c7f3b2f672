//! Makes the folder of a new extension from the templates that this program holds.

use std::path::{Path, PathBuf};

use berth_model::extension::{ExtensionId, ExtensionManifest, Kind};

use super::wit;
use crate::arguments::{Language, NewExtension};
use crate::failure::Failure;
use crate::output::Output;

/// Publisher of an id that names none.
const PUBLISHER: &str = "local";

/// What of a template depends on the kind.
struct Template {
    manifest: &'static str,
    rust: &'static str,
    js: &'static str,
    python: &'static str,
    case: &'static str,
}

macro_rules! template {
    ($kind:literal) => {
        Template {
            manifest: include_str!(concat!("../../templates/", $kind, "/extension.toml")),
            rust: include_str!(concat!("../../templates/", $kind, "/lib.rs")),
            js: include_str!(concat!("../../templates/", $kind, "/extension.js")),
            python: include_str!(concat!("../../templates/", $kind, "/extension.py")),
            case: include_str!(concat!("../../templates/", $kind, "/case.toml")),
        }
    };
}

fn template(kind: Kind) -> Template {
    match kind {
        Kind::Hook => template!("hook"),
        Kind::Policy => template!("policy"),
        Kind::Middleware => template!("middleware"),
        Kind::LogProcessor => template!("log-processor"),
        Kind::Addon => template!("addon"),
        Kind::Console => template!("console"),
    }
}

/// Makes the folder; one that is there and not empty is left alone.
pub(crate) fn run(new: &NewExtension, output: &Output) -> Result<(), Failure> {
    let id = id(&new.name)?;
    let name = id.as_str().split_once('.').map_or(id.as_str(), |(_, name)| name).to_owned();
    let folder = new.folder.clone().unwrap_or_else(|| PathBuf::from(&name));
    must_be_empty(&folder)?;
    let files = files(&id, &name, new.kind, new.lang)?;
    for (path, text) in &files {
        write(&folder.join(path), text)?;
    }
    let manifest = manifest(&files)?;
    wit::write(&folder, &manifest)?;
    output.note(&format!(
        "-----> Made {} of the kind {} in {}\n       next: cd {} && berth ext build && berth ext test",
        id,
        new.kind,
        folder.display(),
        folder.display()
    ));
    Ok(())
}

/// Refuses a folder that has something in it.
pub(super) fn must_be_empty(folder: &Path) -> Result<(), Failure> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::failed(format!(
            "{} is there already and not empty; name another folder with --folder",
            folder.display()
        )));
    }
    Ok(())
}

fn id(name: &str) -> Result<ExtensionId, Failure> {
    let whole = if name.contains('.') { name.to_owned() } else { format!("{PUBLISHER}.{name}") };
    whole.parse().map_err(|error| Failure::usage(format!("{error}")))
}

/// Every file of a new extension.
fn files(
    id: &ExtensionId,
    name: &str,
    kind: Kind,
    language: Language,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let template = template(kind);
    let fill = |text: &str| {
        text.replace("{{id}}", id.as_str())
            .replace("{{name}}", name)
            .replace("{{kind}}", kind.as_str())
    };
    let mut files = vec![
        ("extension.toml", fill(template.manifest)),
        (".gitignore", include_str!("../../templates/gitignore.txt").to_owned()),
        ("tests/first.toml", template.case.to_owned()),
    ];
    if kind == Kind::Hook {
        let answers = include_str!("../../templates/hook/case.http.json").to_owned();
        files.push(("tests/first.http.json", answers));
    }
    match language {
        Language::Rust => {
            // A package's name may not begin with a digit.
            let package = if name.starts_with(|first: char| first.is_ascii_digit()) {
                format!("extension-{name}")
            } else {
                name.to_owned()
            };
            let cargo = include_str!("../../templates/Cargo.toml.txt");
            files.push(("Cargo.toml", cargo.replace("{{name}}", &package)));
            files.push(("src/lib.rs", template.rust.to_owned()));
        }
        Language::Js => {
            files.push(("package.json", fill(include_str!("../../templates/package.json.txt"))));
            files.push(("extension.js", template.js.to_owned()));
        }
        Language::Python => files.push(("extension.py", template.python.to_owned())),
    }
    let readme = fill(include_str!("../../templates/README.md.txt"));
    files.push(("README.md", readme.replace("{{description}}", &manifest(&files)?.description)));
    Ok(files)
}

fn manifest(files: &[(&str, String)]) -> Result<ExtensionManifest, Failure> {
    let text =
        files.iter().find(|(path, _)| *path == "extension.toml").map_or("", |(_, text)| text);
    ExtensionManifest::parse(text)
        .map_err(|error| Failure::failed(format!("the template: {error}")))
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    path.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_whole_in_every_language() {
        for kind in Kind::ALL {
            for language in [Language::Rust, Language::Js, Language::Python] {
                let id = id("9-lives").unwrap();
                let files = files(&id, "9-lives", kind, language).unwrap();
                assert_eq!(manifest(&files).unwrap().kind, kind);
                for (path, text) in files {
                    let left = ["{{id", "{{name", "{{kind", "{{description"];
                    let filled = !left.iter().any(|one| text.contains(one));
                    assert!(filled && !text.is_empty(), "{kind}: {path}");
                }
            }
        }
    }

    #[test]
    fn a_name_alone_gets_a_publisher() {
        assert_eq!(id("notify").unwrap().as_str(), "local.notify");
        assert_eq!(id("acme.notify").unwrap().as_str(), "acme.notify");
        assert!(id("Notify").is_err());
        assert!(id("../x").is_err());
    }
}
