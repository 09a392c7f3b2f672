//! What makes a component an extension: its manifest, and an outside that is within it.

use berth_model::extension::{ExtensionManifest, Filter, Kind, MANIFEST_BYTES_MAX, ManifestError};

use super::{NotAComponent, Shape, WASI, is_wasi, list, name_of, shape};

/// Custom section of the component that holds `extension.toml`.
pub(super) const MANIFEST_SECTION: &str = "berth:extension";

/// A component that cannot be an extension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionRefusal {
    /// It is no component.
    #[error(transparent)]
    NotAComponent(#[from] NotAComponent),
    /// It was built by something else.
    #[error(
        "the component has no manifest (custom section `{MANIFEST_SECTION}`); build it with \
         `berth ext build`"
    )]
    NoManifest,
    /// Its manifest is not accepted.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It does not do what its kind does.
    #[error(
        "the component does not export {}, so it is no {kind} of this version of Berth; build it \
         with `berth ext build`, which writes the interfaces of this version (it exports: {})",
        list(.missing), list(.exports)
    )]
    NoExport {
        /// What its manifest says.
        kind: Kind,
        /// What extensions of the kind export and this one does not.
        missing: Vec<String>,
        /// What it exports.
        exports: Vec<String>,
    },
    /// It needs what its manifest does not name.
    #[error("the component imports {}, but its manifest {advice}", name_of(.interface))]
    Missing {
        /// Interface with its version.
        interface: String,
        /// What to do.
        advice: String,
    },
}

/// The manifest that a component holds.
///
/// # Errors
/// `NotAComponent`, `NoManifest`, `Manifest`.
pub fn extension_manifest(component: &[u8]) -> Result<ExtensionManifest, ExtensionRefusal> {
    manifest_of(&shape(component)?)
}

fn manifest_of(shape: &Shape) -> Result<ExtensionManifest, ExtensionRefusal> {
    let form = |reason: &str| ExtensionRefusal::Manifest(ManifestError::Form(reason.to_owned()));
    let bytes = match shape.manifests.as_slice() {
        [] => return Err(ExtensionRefusal::NoManifest),
        [one] => one,
        // Which of them was reviewed, nobody could say.
        _ => return Err(form("the component has more than one; build it anew")),
    };
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(form("it is longer than 64 KiB"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| form("it is not UTF-8"))?;
    Ok(ExtensionManifest::parse(text)?)
}

/// Checks that a component is the extension that its manifest describes: it exports what its kind
/// does, and imports nothing that the manifest does not name.
///
/// # Errors
/// What is wrong, for its author.
pub fn check_extension(component: &[u8]) -> Result<ExtensionManifest, ExtensionRefusal> {
    let shape = shape(component)?;
    let manifest = manifest_of(&shape)?;
    let missing: Vec<_> =
        exports(&manifest).into_iter().filter(|name| !shape.exports.contains(name)).collect();
    if !missing.is_empty() {
        return Err(ExtensionRefusal::NoExport {
            kind: manifest.kind,
            missing,
            exports: shape.exports,
        });
    }
    let named = manifest.capabilities.interfaces();
    for interface in shape.imports {
        let ours = interface.as_str();
        let free = FREE.contains(&ours)
            || named.contains(&ours)
            || (manifest.kind == Kind::Middleware && ours == "berth:middleware/types@0.1.0");
        if !free && !is_wasi(ours, WASI) {
            let advice = advice(ours, manifest.kind);
            return Err(ExtensionRefusal::Missing { interface, advice });
        }
    }
    Ok(manifest)
}

/// What every extension may import.
const FREE: &[&str] =
    &["berth:types/types@0.1.0", "berth:log/log@0.1.0", "berth:config/config@0.1.0"];

/// The interfaces that an extension exports.
fn exports(manifest: &ExtensionManifest) -> Vec<String> {
    let kind = manifest.kind;
    let names = match kind {
        Kind::Hook => vec!["handler"],
        Kind::Policy => vec!["judge"],
        Kind::Middleware => manifest.filters.iter().copied().map(Filter::interface).collect(),
        Kind::LogProcessor => vec!["processor"],
        Kind::Addon => vec!["provider"],
        Kind::Console => vec!["pages"],
    };
    let version = kind.api_version();
    names.into_iter().map(|name| format!("berth:{kind}/{name}@{version}")).collect()
}

/// What to do about an import.
fn advice(interface: &str, kind: Kind) -> String {
    let key = match interface.split('@').next().unwrap_or_default() {
        "berth:kv/kv" => "kv",
        "berth:secrets/secrets" => "secrets",
        "berth:secrets/reader" => "secrets-read",
        "berth:http-out/http-out" => "http",
        "berth:counters/counters" => "counters",
        "berth:events/events" => "emit",
        "berth:clock/clock" => "clock",
        "berth:metrics/metrics" => "metrics",
        name if name.starts_with("wasi:http/") => {
            return "cannot name it: requests go through berth:http-out (capability `http`)"
                .to_owned();
        }
        _ => {
            return format!(
                "cannot name it: Berth does not give it to extensions of the kind {kind}"
            );
        }
    };
    if interface.ends_with("@0.1.0") {
        format!(
            "does not name the capability `{key}`; add it to [capabilities] with its `why`, or do not use it"
        )
    } else {
        "is of another version of Berth; build it anew with `berth ext build`".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: &str = "berth:hook/handler@0.1.0";

    fn component(imports: &[&str], exports: &[&str], capabilities: &str) -> Vec<u8> {
        let manifest = format!(
            "[extension]\nid = \"acme.demo\"\nversion = \"0.1.0\"\nkind = \"hook\"\n\
             api = \"berth:hook@0.1.0\"\n[capabilities]\n{capabilities}"
        );
        let mut wasm = bare(imports, exports);
        let body = [&[15][..], MANIFEST_SECTION.as_bytes(), manifest.as_bytes()].concat();
        let length = body.len();
        wasm.push(0);
        wasm.extend([length & 0x7f | 0x80, length >> 7].map(|byte| u8::try_from(byte).unwrap()));
        wasm.extend(body);
        wasm
    }

    fn bare(imports: &[&str], exports: &[&str]) -> Vec<u8> {
        let imports: String =
            imports.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
        let exports: String =
            exports.iter().map(|name| format!("(export \"{name}\" (instance $i))")).collect();
        wat::parse_str(format!("(component {imports} (instance $i) {exports})")).unwrap()
    }

    fn refusal(component: &[u8]) -> String {
        check_extension(component).unwrap_err().to_string()
    }

    #[test]
    fn an_extension_imports_what_its_manifest_names() {
        let imports = ["berth:log/log@0.1.0", "berth:kv/kv@0.1.0", "wasi:cli/stdout@0.2.6"];
        let good = component(&imports, &[HANDLER], "kv = { quota = \"1MiB\" }");
        assert_eq!(check_extension(&good).unwrap().id.as_str(), "acme.demo");
        let refused = refusal(&component(&imports, &[HANDLER], ""));
        assert!(refused.contains("berth:kv/kv@0.1.0") && refused.contains("`kv`"), "{refused}");
    }

    #[test]
    fn every_power_that_is_not_named_is_refused() {
        for power in [
            "berth:kv/kv@0.1.0",
            "berth:secrets/secrets@0.1.0",
            "berth:secrets/reader@0.1.0",
            "berth:http-out/http-out@0.1.0",
            "berth:counters/counters@0.1.0",
            "berth:events/events@0.1.0",
            "berth:clock/clock@0.1.0",
            "berth:metrics/metrics@0.1.0",
            "wasi:http/outgoing-handler@0.2.6",
            "berth:middleware/types@0.1.0",
        ] {
            let refused = refusal(&component(&[power], &[HANDLER], ""));
            assert!(refused.contains(power), "{power}: {refused}");
        }
    }

    #[test]
    fn an_interface_of_another_version_is_refused_and_says_so() {
        let newer = component(&["berth:kv/kv@0.2.0"], &[HANDLER], "kv = { quota = \"1MiB\" }");
        assert!(refusal(&newer).contains("another version"), "{}", refusal(&newer));
    }

    #[test]
    fn a_component_without_the_exports_of_its_kind_is_refused() {
        let refused = refusal(&component(&[], &["berth:policy/judge@0.1.0"], ""));
        assert!(refused.contains("does not export berth:hook/handler@0.1.0"), "{refused}");
        assert!(refused.contains("it exports: berth:policy/judge@0.1.0"), "{refused}");
    }

    #[test]
    fn a_component_without_a_manifest_is_no_extension() {
        assert_eq!(check_extension(&bare(&[], &[HANDLER])), Err(ExtensionRefusal::NoManifest));
        assert!(matches!(check_extension(b"no"), Err(ExtensionRefusal::NotAComponent(_))));
    }
}
