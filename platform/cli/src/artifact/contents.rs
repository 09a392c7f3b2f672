//! What a component says of itself: the manifest in it, and the interfaces at its outside.

use berth_model::extension::ExtensionManifest;
use berth_model::text::printable;
use wasmparser::{Encoding, Parser, Payload};

/// Custom section of a component that holds its manifest.
const MANIFEST_SECTION: &str = "berth:extension";

/// What is said of a component beside its bytes.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) manifest: ExtensionManifest,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// Reads the outer sections. Whether a platform takes the component, a platform says.
///
/// # Errors
/// Why it is no extension.
pub(super) fn read(component: &[u8]) -> Result<Contents, String> {
    if !component.starts_with(b"\0asm") {
        return Err("it is not WebAssembly".to_owned());
    }
    let damaged = |error: wasmparser::BinaryReaderError| {
        format!("it is damaged: {}", printable(&error.to_string(), 200))
    };
    let (mut imports, mut exports, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err("it is a module, not a component".to_owned());
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == MANIFEST_SECTION => {
                manifests.push(section.data());
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    let [manifest] = manifests[..] else {
        return Err(match manifests.len() {
            0 => "it has no manifest; `berth ext build` puts it there".to_owned(),
            _ => "it has more than one manifest; build it anew".to_owned(),
        });
    };
    let text = std::str::from_utf8(manifest).map_err(|_| "its manifest is not UTF-8".to_owned())?;
    let manifest = ExtensionManifest::parse(text).map_err(|error| error.to_string())?;
    Ok(Contents { manifest, imports, exports })
}
