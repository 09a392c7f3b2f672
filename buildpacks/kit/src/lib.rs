//! What the buildpacks of this folder share: the bindings of the `berth:buildpack` world and a few
//! words around them. It takes nothing and keeps nothing; whatever it knows it asks the host.
//!
//! A buildpack implements [`Detect`] and [`Build`] for a type and ends with
//! `berth_buildpack_kit::export!(TheType with_types_in berth_buildpack_kit::bindings);`.

pub mod procfile;
pub mod settings;
pub mod site;
mod step;

/// Generated from `platform/wit/buildpack`.
#[allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../platform/wit/buildpack",
        world: "buildpack",
        pub_export_macro: true,
        default_bindings_module: "berth_buildpack_kit::bindings",
    });
}

pub use bindings::berth::buildpack::types::{Context, Failure, Plan, Require};
pub use bindings::berth::buildpack::{inventory, layers, log, source, tools, workspace};
pub use bindings::export;
pub use bindings::exports::berth::buildpack::builder::{Guest as Build, Output, Process};
pub use bindings::exports::berth::buildpack::detector::{Guest as Detect, Outcome};
pub use layers::Layer;
pub use step::{Finished, Step, shell};

/// Largest file of the source that a buildpack reads; lock files of big apps have some 5 MiB.
pub const FILE_BYTES_MAX: u64 = 32 << 20;

/// An error for the person who pushed: `message` says what failed, on what, and what to do.
pub fn failure(code: &str, message: impl Into<String>) -> Failure {
    Failure { code: code.to_owned(), message: message.into(), retry: false, extra: Vec::new() }
}

/// The same, with the file (and line) that is to be mended.
pub fn failure_at(
    code: &str,
    file: &str,
    line: Option<usize>,
    message: impl Into<String>,
) -> Failure {
    let mut failure = failure(code, message);
    failure.extra.push(("file".to_owned(), file.to_owned()));
    failure.extra.extend(line.map(|line| ("line".to_owned(), line.to_string())));
    failure
}

/// Passes detection, with the build plan's alternatives.
pub fn pass(plans: Vec<Plan>) -> Result<Outcome, Failure> {
    Ok(Outcome::Pass(plans))
}

/// Does not fit, and why.
pub fn fail(reason: impl Into<String>) -> Result<Outcome, Failure> {
    Ok(Outcome::Fail(reason.into()))
}

/// A build plan of names without metadata.
pub fn plan(provides: &[&str], requires: &[&str]) -> Plan {
    Plan {
        provides: provides.iter().map(|&name| name.to_owned()).collect(),
        requires: requires
            .iter()
            .map(|&name| Require { name: name.to_owned(), metadata: "{}".to_owned() })
            .collect(),
    }
}

/// Whether the source has a file (not a directory) at this path.
pub fn has(path: &str) -> bool {
    matches!(source::kind(path).as_str(), "file" | "executable")
}

/// The text of a file; nothing when there is none.
///
/// # Errors
/// The file is larger than [`FILE_BYTES_MAX`] or not UTF-8.
pub fn text(path: &str) -> Result<Option<String>, Failure> {
    if !has(path) {
        return Ok(None);
    }
    let bytes = source::read(path, FILE_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        failure_at("not-utf8", path, None, format!("{path} is not UTF-8 text. Save it as UTF-8."))
    })?;
    Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

/// A line of the push output.
pub fn info(text: &str) {
    log::line("info", text);
}

/// A warning in the push output.
pub fn warn(text: &str) {
    log::line("warning", text);
}

/// An output with nothing but the workspace in the image.
pub fn output() -> Output {
    Output {
        processes: Vec::new(),
        release: None,
        unmet: Vec::new(),
        component: None,
        workspace: true,
        labels: Vec::new(),
        extra: Vec::new(),
    }
}

/// A process from an argument vector.
pub fn process(name: &str, command: &[&str]) -> Process {
    Process {
        name: name.to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        default: name == "web",
        working_dir: None,
        extra: Vec::new(),
    }
}

/// Opens a layer and says whether its restored contents can stay: their metadata must equal `key`.
/// Where they differ they are dropped, and `key` is what the next build finds.
///
/// # Errors
/// The host's, for a name that is not one of a layer.
pub fn layer(
    name: &str,
    kinds: &[&str],
    key: &serde_json::Value,
) -> Result<(Layer, bool), Failure> {
    let kinds: Vec<String> = kinds.iter().map(|&kind| kind.to_owned()).collect();
    let layer = layers::open(name, &kinds)?;
    let same = layer
        .restored()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        .is_some_and(|restored| restored == *key);
    if !same {
        layer.clear();
    }
    layer.set_metadata(&key.to_string());
    Ok((layer, same))
}
