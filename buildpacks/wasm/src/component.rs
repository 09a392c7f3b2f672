//! A component that was committed: which file it is.

use berth_buildpack_kit::settings::{Table, Value};
use berth_buildpack_kit::{Failure, failure_at, has, source};

/// A commit with one of these is built from its source; a stray `.wasm` beside it is a part of it.
const PROJECTS: [&str; 6] = [
    "package.json",
    "requirements.txt",
    "pyproject.toml",
    "index.html",
    "public/index.html",
    "Procfile",
];

/// The component's path, or why there is none.
pub(crate) fn find(settings: &Table) -> Result<Result<String, String>, Failure> {
    if let Some(path) = settings.get("component").and_then(Value::as_str) {
        let path = path.strip_prefix("./").unwrap_or(path);
        if !has(path) {
            return Err(failure_at(
                "no-component",
                "berth.toml",
                None,
                format!(
                    "berth.toml names the component '{path}', which is not in the commit. Build it and commit it, or let the push build it: [wasm] build = \"rust\", \"javascript\" or \"python\"."
                ),
            ));
        }
        return Ok(Ok(path.to_owned()));
    }
    if has("app.wasm") {
        return Ok(Ok("app.wasm".to_owned()));
    }
    if let Some(project) = PROJECTS.into_iter().find(|path| has(path)) {
        return Ok(Err(format!(
            "there is no app.wasm and no [wasm] component in berth.toml, and {project} says that the app is built from source. To build a Wasm app from it, write [wasm] build = \"javascript\" or \"python\" in berth.toml"
        )));
    }
    let mut found = source::glob(&["*.wasm".to_owned()]);
    Ok(match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 if has("Cargo.toml") => Err("there is a Cargo.toml: to build a Wasm app from it, write [wasm] build = \"rust\" in berth.toml".to_owned()),
        0 => Err("there is no app.wasm, no other .wasm file at the root and no [wasm] component in berth.toml".to_owned()),
        _ => Err(format!("there are several .wasm files at the root ({}); name one in berth.toml: [wasm] component = \"…\"", found.join(", "))),
    })
}
