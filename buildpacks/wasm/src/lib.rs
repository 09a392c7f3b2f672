//! The `wasm` buildpack: an app that is a component of the world `wasi:http/proxy`. It is in the
//! commit already, or made from Rust, JavaScript or Python source where `berth.toml` says so with
//! `[wasm] build`. Whether the component exports what it must is checked by the host.

mod component;
mod javascript;
mod main_file;
mod python;
mod rust;
mod world;

use berth_buildpack_kit::settings::{Table, Value};
use berth_buildpack_kit::{
    Build, Context, Detect, Failure, Outcome, Output, Require, fail, failure, log, output, pass,
    plan, settings,
};

struct Wasm;

/// The layer that takes what was made, and the file in it.
const COMPONENT: &str = "component";
const FILE: &str = "app.wasm";
/// Runs a tool that executes the app's code while it makes the component: without the app's
/// configuration, which would come to lie in it.
const BARE: &str = "exec env -i HOME=/tmp TMPDIR=/tmp PATH=\"$PATH\"";

/// Where the component comes from.
enum Origin {
    /// A file of the commit.
    Committed(String),
    Rust(rust::Project),
    JavaScript(javascript::Project),
    Python(python::Project),
}

/// What the app says, or why it is none for this buildpack.
fn origin(settings: &Table) -> Result<Result<Origin, String>, Failure> {
    Ok(match settings.get("build").and_then(Value::as_str) {
        None => component::find(settings)?.map(Origin::Committed),
        Some("rust") => Ok(Origin::Rust(rust::Project::find()?)),
        Some("javascript") => Ok(Origin::JavaScript(javascript::Project::find(settings)?)),
        Some("python") => Ok(Origin::Python(python::Project::find(settings)?)),
        Some(other) => {
            return Err(failure(
                "build",
                format!(
                    "[wasm] build in berth.toml is '{other}', which this platform cannot build."
                ),
            ));
        }
    })
}

impl Detect for Wasm {
    fn detect(_: Context) -> Result<Outcome, Failure> {
        match origin(&settings::table("wasm")?)? {
            Ok(_) => pass(vec![plan(&[], &[])]),
            Err(reason) => fail(reason),
        }
    }
}

impl Build for Wasm {
    fn build(_: Context, _: Vec<Require>) -> Result<Output, Failure> {
        let origin =
            origin(&settings::table("wasm")?)?.map_err(|reason| failure("no-component", reason))?;
        let path = match origin {
            Origin::Committed(path) => {
                log::header(&format!("Wasm app: {path}"));
                path
            }
            Origin::Rust(project) => project.build()?,
            Origin::JavaScript(project) => project.build()?,
            Origin::Python(project) => project.build()?,
        };
        Ok(Output { component: Some(path), workspace: false, ..output() })
    }
}

berth_buildpack_kit::export!(Wasm with_types_in berth_buildpack_kit::bindings);
