//! Says what a component imports and exports, without compiling or running it.
//!
//! Takes the bytes of a component from anywhere; gives a refusal that names what is missing, in
//! words that its author understands. It reads the outer sections only: whether the component is
//! valid as a whole, the compiler says.

mod buildpack;
mod extension;

use wasmparser::{Encoding, Parser, Payload};

pub use buildpack::buildpack_manifest;
pub use extension::{ExtensionRefusal, check_extension, extension_manifest};

/// Bytes that are not a component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAComponent {
    /// They do not begin like WebAssembly.
    #[error("this is not a WebAssembly file")]
    NotWasm,
    /// A module of the time before components.
    #[error(
        "this is a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap \
         it with `wasm-tools component new`"
    )]
    CoreModule,
    /// They end early or are mangled.
    #[error("the component is damaged: {0}")]
    Malformed(String),
}

/// A component that cannot be an app.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppRefusal {
    /// It is no component.
    #[error(transparent)]
    NotAComponent(#[from] NotAComponent),
    /// It answers no requests.
    #[error(
        "the component does not export wasi:http/incoming-handler@0.2, so it cannot answer \
         requests; build it for the world wasi:http/proxy (it exports: {})", list(.exports)
    )]
    NoHandler {
        /// What it exports.
        exports: Vec<String>,
    },
    /// It needs what apps do not have.
    #[error("the component imports what Berth does not give to apps: {}", list(.interfaces))]
    Missing {
        /// Interfaces with their versions.
        interfaces: Vec<String>,
    },
}

/// A component that cannot be a buildpack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildpackRefusal {
    /// It is no component.
    #[error(transparent)]
    NotAComponent(#[from] NotAComponent),
    /// It does not export the world's interfaces.
    #[error(
        "the component does not export {}, so it is no buildpack of this version of Berth; build \
         it for the world berth:buildpack/buildpack@0.1.0 (it exports: {})",
        list(.missing), list(.exports)
    )]
    NoBuildpack {
        /// What a buildpack exports and this one does not.
        missing: Vec<String>,
        /// What it exports.
        exports: Vec<String>,
    },
    /// It needs what buildpacks do not have.
    #[error("the component imports what Berth does not give to buildpacks: {}", list(.interfaces))]
    Missing {
        /// Interfaces with their versions.
        interfaces: Vec<String>,
    },
    /// It was built by something else.
    #[error(
        "the component has no manifest (custom section `{}`); build it with `berth buildpack build`",
        buildpack::MANIFEST_SECTION
    )]
    NoManifest,
    /// Its manifest is not accepted.
    #[error(transparent)]
    Manifest(#[from] berth_model::buildpack::BuildpackManifestError),
}

/// Interfaces of WASI that every guest may import. What lies behind them depends on the world: no
/// guest has files or sockets, whatever it imports.
const WASI: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];
const WASI_HTTP: &[&str] = &["wasi:http/outgoing-handler", "wasi:http/types"];
/// Powers of apps; accepted exactly, until the interfaces are frozen.
const APP_POWERS: &[&str] = &[
    "berth:http-out/http-out@0.1.0",
    "berth:kv/kv@0.1.0",
    "berth:secrets/secrets@0.1.0",
    "berth:types/types@0.1.0",
];
const BUILDPACK_IMPORTS: &[&str] =
    &["source", "log", "inventory", "workspace", "layers", "tools", "types"];
const BUILDPACK_EXPORTS: &[&str] = &["detector", "builder"];
/// Accepted exactly, one at a time, until the interfaces are frozen.
const BUILDPACK_VERSION: &str = "0.1.0";

/// Checks that a component can be an app.
///
/// # Errors
/// What is missing, for its author.
pub fn check_app(component: &[u8]) -> Result<(), AppRefusal> {
    let shape = shape(component)?;
    if !shape.exports.iter().any(|name| is_wasi(name, &["wasi:http/incoming-handler"])) {
        return Err(AppRefusal::NoHandler { exports: shape.exports });
    }
    let interfaces: Vec<_> = shape
        .imports
        .into_iter()
        .filter(|name| !is_wasi(name, WASI) && !is_wasi(name, WASI_HTTP))
        .filter(|name| !APP_POWERS.contains(&name.as_str()))
        .collect();
    if interfaces.is_empty() { Ok(()) } else { Err(AppRefusal::Missing { interfaces }) }
}

/// Checks that a component can be a buildpack.
///
/// # Errors
/// What is missing, for its author.
pub fn check_buildpack(component: &[u8]) -> Result<(), BuildpackRefusal> {
    judge_buildpack(shape(component)?).map(drop)
}

/// Gives the manifests of a component that can be a buildpack; it should be one.
fn judge_buildpack(shape: Shape) -> Result<Vec<Vec<u8>>, BuildpackRefusal> {
    let full = |name: &&str| format!("berth:buildpack/{name}@{BUILDPACK_VERSION}");
    let missing: Vec<_> = BUILDPACK_EXPORTS
        .iter()
        .map(full)
        .filter(|wanted| !shape.exports.contains(wanted))
        .collect();
    if !missing.is_empty() {
        return Err(BuildpackRefusal::NoBuildpack { missing, exports: shape.exports });
    }
    let given: Vec<_> = BUILDPACK_IMPORTS.iter().map(full).collect();
    let interfaces: Vec<_> = shape
        .imports
        .into_iter()
        .filter(|name| !is_wasi(name, WASI) && !given.contains(name))
        .collect();
    if interfaces.is_empty() {
        Ok(shape.buildpack_manifests)
    } else {
        Err(BuildpackRefusal::Missing { interfaces })
    }
}

/// Whether a name is one of the interfaces, of any 0.2 version: they only ever grow.
fn is_wasi(name: &str, interfaces: &[&str]) -> bool {
    name.split_once('@').is_some_and(|(interface, version)| {
        let patch = version.strip_prefix("0.2.").unwrap_or_default();
        interfaces.contains(&interface)
            && !patch.is_empty()
            && patch.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Names that are told of one component.
const NAMES_MAX: usize = 20;

/// Names from a component, which may hold anything, fit to be shown.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let mut shown: Vec<_> = names.iter().take(NAMES_MAX).map(|name| name_of(name)).collect();
    if names.len() > NAMES_MAX {
        shown.push(format!("and {} more", names.len() - NAMES_MAX));
    }
    shown.join(", ")
}

fn name_of(name: &str) -> String {
    berth_model::text::printable(name, 200)
}

/// The outside of a component.
#[derive(Default)]
pub(crate) struct Shape {
    imports: Vec<String>,
    exports: Vec<String>,
    /// The manifests of an extension; it should be one.
    manifests: Vec<Vec<u8>>,
    /// The manifests of a buildpack; it should be one.
    buildpack_manifests: Vec<Vec<u8>>,
}

/// Reads the names of imports and exports of the outermost component.
pub(crate) fn shape(component: &[u8]) -> Result<Shape, NotAComponent> {
    if !component.starts_with(b"\0asm") {
        return Err(NotAComponent::NotWasm);
    }
    let damaged =
        |error: wasmparser::BinaryReaderError| NotAComponent::Malformed(error.to_string());
    let mut shape = Shape::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(NotAComponent::CoreModule);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 => match section.name() {
                extension::MANIFEST_SECTION => shape.manifests.push(section.data().to_vec()),
                buildpack::MANIFEST_SECTION => {
                    shape.buildpack_manifests.push(section.data().to_vec());
                }
                _ => {}
            },
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    shape.imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    shape.exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(shape)
}
