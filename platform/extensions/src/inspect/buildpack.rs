//! What makes a component a buildpack of its own: its manifest, and the outside of its world.

use berth_model::buildpack::{BuildpackManifest, BuildpackManifestError};
use berth_model::extension::MANIFEST_BYTES_MAX;

use super::{BuildpackRefusal, judge_buildpack, shape};

/// Custom section of the component that holds `buildpack.toml`.
pub(super) const MANIFEST_SECTION: &str = "berth:buildpack";

/// Checks that a component is a buildpack that says what it is, and gives its manifest. Those that
/// ship with Berth have none: their files' names are their ids.
///
/// # Errors
/// What is wrong, for its author.
pub fn buildpack_manifest(component: &[u8]) -> Result<BuildpackManifest, BuildpackRefusal> {
    let form =
        |reason: &str| BuildpackRefusal::Manifest(BuildpackManifestError::Form(reason.to_owned()));
    let manifests = judge_buildpack(shape(component)?)?;
    let bytes = match manifests.as_slice() {
        [] => return Err(BuildpackRefusal::NoManifest),
        [one] => one,
        // Which of them counts, nobody could say.
        _ => return Err(form("the component has more than one; build it anew")),
    };
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(form("it is longer than 64 KiB"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| form("it is not UTF-8"))?;
    Ok(BuildpackManifest::parse(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORTS: [&str; 2] = ["berth:buildpack/detector@0.1.0", "berth:buildpack/builder@0.1.0"];

    fn component(imports: &[&str], exports: &[&str], manifests: &[&str]) -> Vec<u8> {
        let imports: String =
            imports.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
        let exports: String =
            exports.iter().map(|name| format!("(export \"{name}\" (instance $i))")).collect();
        let text = format!("(component {imports} (instance $i) {exports})");
        let mut wasm = wat::parse_str(text).unwrap();
        for manifest in manifests {
            let body = [&[15][..], MANIFEST_SECTION.as_bytes(), manifest.as_bytes()].concat();
            let length = body.len();
            wasm.push(0);
            wasm.extend(
                [length & 0x7f | 0x80, length >> 7].map(|byte| u8::try_from(byte).unwrap()),
            );
            wasm.extend(body);
        }
        wasm
    }

    const MANIFEST: &str = "[buildpack]\nid = \"make\"\nversion = \"0.1.0\"\n\
                            api = \"berth:buildpack@0.1.0\"\n";

    #[test]
    fn a_buildpack_says_who_it_is() {
        let imports = ["berth:buildpack/source@0.1.0", "wasi:cli/stdout@0.2.6"];
        let good = component(&imports, &EXPORTS, &[MANIFEST]);
        assert_eq!(buildpack_manifest(&good).unwrap().id.as_str(), "make");
    }

    #[test]
    fn what_is_not_a_buildpack_is_refused_with_what_is_wrong() {
        for (component, told) in [
            (b"text".to_vec(), "this is not a WebAssembly file"),
            (component(&[], &EXPORTS, &[]), "no manifest (custom section `berth:buildpack`)"),
            (component(&[], &EXPORTS, &[MANIFEST, MANIFEST]), "has more than one"),
            (component(&[], &EXPORTS[..1], &[MANIFEST]), "berth:buildpack/builder@0.1.0"),
            (
                component(&["wasi:http/outgoing-handler@0.2.6"], &EXPORTS, &[MANIFEST]),
                "imports what Berth does not give to buildpacks: wasi:http/outgoing-handler@0.2.6",
            ),
            (
                component(&[], &["berth:hook/handler@0.1.0"], &[MANIFEST]),
                "it exports: berth:hook/handler@0.1.0",
            ),
            (component(&[], &EXPORTS, &["[buildpack]\nid = 1\n"]), "buildpack.toml: line 2"),
        ] {
            let refused = buildpack_manifest(&component).unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
    }
}
