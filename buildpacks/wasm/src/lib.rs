//! The `wasm` buildpack: a prebuilt component that answers HTTP (`wasi:http/proxy`). It chooses the
//! file; whether the component exports what it must is checked by the host.

use berth_buildpack_kit::{
    Build, Context, Detect, Failure, Outcome, Output, Require, fail, failure, failure_at, has, log,
    output, pass, plan, settings, source,
};

struct Wasm;

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
fn component() -> Result<Result<String, String>, Failure> {
    let named = settings::table("wasm")?;
    if let Some(path) = named.get("component").and_then(settings::Value::as_str) {
        let path = path.strip_prefix("./").unwrap_or(path);
        if !has(path) {
            return Err(failure_at(
                "no-component",
                "berth.toml",
                None,
                format!(
                    "berth.toml names the component '{path}', which is not in the commit. Build it and commit it."
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
            "there is no app.wasm and no [wasm] component in berth.toml, and {project} says that the app is built from source"
        )));
    }
    let mut found = source::glob(&["*.wasm".to_owned()]);
    Ok(match found.len() {
        0 => Err("there is no app.wasm, no other .wasm file at the root and no [wasm] component in berth.toml".to_owned()),
        1 => Ok(found.swap_remove(0)),
        _ => Err(format!("there are several .wasm files at the root ({}); name one in berth.toml: [wasm] component = \"…\"", found.join(", "))),
    })
}

impl Detect for Wasm {
    fn detect(_: Context) -> Result<Outcome, Failure> {
        match component()? {
            Ok(_) => pass(vec![plan(&[], &[])]),
            Err(reason) => fail(reason),
        }
    }
}

impl Build for Wasm {
    fn build(_: Context, _: Vec<Require>) -> Result<Output, Failure> {
        let path = component()?.map_err(|reason| failure("no-component", reason))?;
        log::header(&format!("Wasm app: {path}"));
        Ok(Output { component: Some(path), workspace: false, ..output() })
    }
}

berth_buildpack_kit::export!(Wasm with_types_in berth_buildpack_kit::bindings);
