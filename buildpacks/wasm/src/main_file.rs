//! The file of an interpreted language that answers requests.

use berth_buildpack_kit::settings::{Table, Value};
use berth_buildpack_kit::{Failure, failure_at, has};

/// What `[wasm] main` names, else the first of the usual files.
pub(crate) fn find(settings: &Table, language: &str, usual: &[&str]) -> Result<String, Failure> {
    let refuse = |message: String| Err(failure_at("no-main", "berth.toml", None, message));
    if let Some(path) = settings.get("main").and_then(Value::as_str) {
        let path = path.strip_prefix("./").unwrap_or(path);
        return if has(path) {
            Ok(path.to_owned())
        } else {
            refuse(format!(
                "berth.toml names the file '{path}' ([wasm] main), which is not in the commit."
            ))
        };
    }
    match usual.iter().find(|path| has(path)) {
        Some(path) => Ok((*path).to_owned()),
        None => refuse(format!(
            "the app is to be built from {language}, but there is none of {}. Name the file that answers requests in berth.toml: [wasm] main = \"…\".",
            usual.join(", ")
        )),
    }
}
