//! The interfaces that a guest is compiled against: the platform's packages, and a world of the
//! extension's own, made from its manifest, so that a component can only import what it asks for.

use std::collections::BTreeSet;
use std::path::Path;

use berth_model::extension::{ExtensionManifest, Kind};

use crate::failure::Failure;

/// Every package, by the last part of its name.
const PACKAGES: &[(&str, &str)] = &[
    ("addon", include_str!("../../../wit/addon/addon.wit")),
    ("clock", include_str!("../../../wit/clock/clock.wit")),
    ("config", include_str!("../../../wit/config/config.wit")),
    ("console", include_str!("../../../wit/console/console.wit")),
    ("counters", include_str!("../../../wit/counters/counters.wit")),
    ("events", include_str!("../../../wit/events/events.wit")),
    ("hook", include_str!("../../../wit/hook/hook.wit")),
    ("http-out", include_str!("../../../wit/http-out/http-out.wit")),
    ("kv", include_str!("../../../wit/kv/kv.wit")),
    ("log", include_str!("../../../wit/log/log.wit")),
    ("log-processor", include_str!("../../../wit/log-processor/log-processor.wit")),
    ("metrics", include_str!("../../../wit/metrics/metrics.wit")),
    ("middleware", include_str!("../../../wit/middleware/middleware.wit")),
    ("policy", include_str!("../../../wit/policy/policy.wit")),
    ("secrets", include_str!("../../../wit/secrets/secrets.wit")),
    ("types", include_str!("../../../wit/types/types.wit")),
];

/// Writes `wit/`; what is right already keeps its time, so that nothing is built for nothing.
pub(crate) fn write(folder: &Path, manifest: &ExtensionManifest) -> Result<(), Failure> {
    let wit = folder.join("wit");
    let deps = wit.join("deps");
    let needed = packages(manifest);
    put(&wit.join("world.wit"), &world(manifest))?;
    for (name, text) in PACKAGES.iter().filter(|(name, _)| needed.contains(name)) {
        put(&deps.join(name).join(format!("{name}.wit")), text)?;
    }
    for entry in std::fs::read_dir(&deps)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| needed.contains(name)) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

pub(crate) fn put(path: &Path, text: &str) -> Result<(), Failure> {
    if std::fs::read_to_string(path).is_ok_and(|is| is == text) {
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot write {}: {error}", path.display()))
    };
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    std::fs::write(path, text).map_err(failed)
}

/// The world that the guest is compiled for.
fn world(manifest: &ExtensionManifest) -> String {
    let name = manifest.id.as_str().replacen('.', ":", 1);
    let mut text = format!(
        "// Made by `berth ext build` from extension.toml: changes here are lost.\n\
         package {name}@{};\n\nworld extension {{\n    import berth:log/log@0.1.0;\n    \
         import berth:config/config@0.1.0;\n",
        manifest.version
    );
    for interface in manifest.capabilities.interfaces() {
        text.push_str(&format!("    import {interface};\n"));
    }
    for interface in exports(manifest) {
        text.push_str(&format!("    export {interface};\n"));
    }
    text.push_str("}\n");
    text
}

/// What the component offers the platform.
fn exports(manifest: &ExtensionManifest) -> Vec<String> {
    let kind = manifest.kind;
    let names: Vec<&str> = match kind {
        Kind::Hook => vec!["handler"],
        Kind::Policy => vec!["judge"],
        Kind::Middleware => manifest.filters.iter().map(|filter| filter.interface()).collect(),
        Kind::LogProcessor => vec!["processor"],
        Kind::Addon => vec!["provider"],
        Kind::Console => vec!["pages"],
    };
    let version = kind.api_version();
    names.into_iter().map(|name| format!("berth:{kind}/{name}@{version}")).collect()
}

/// The kind's package, and all that it or another needed one names.
fn packages(manifest: &ExtensionManifest) -> BTreeSet<&'static str> {
    let mut needed = BTreeSet::new();
    let mut open = vec![manifest.kind.as_str(), "log", "config"];
    open.extend(manifest.capabilities.interfaces().iter().filter_map(|name| package(name)));
    while let Some(name) = open.pop() {
        if needed.insert(name)
            && let Some((_, text)) = PACKAGES.iter().find(|(package, _)| *package == name)
        {
            open.extend(text.match_indices("berth:").filter_map(|(at, _)| package(&text[at..])));
        }
    }
    PACKAGES.iter().map(|(name, _)| *name).filter(|name| needed.contains(name)).collect()
}

/// `kv` of `berth:kv/kv@0.1.0`.
fn package(interface: &'static str) -> Option<&'static str> {
    interface.strip_prefix("berth:")?.split(['/', '@']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(kind: &str, more: &str) -> ExtensionManifest {
        ExtensionManifest::parse(&format!(
            "[extension]\nid = \"acme.demo\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\n\
             api = \"berth:{kind}@0.1.0\"\n{more}"
        ))
        .unwrap()
    }

    #[test]
    fn a_world_imports_what_the_manifest_names_and_nothing_else() {
        let text = world(&manifest("hook", "[capabilities]\nkv = { quota = \"1MiB\" }\n"));
        let imports: Vec<_> = text.lines().filter(|line| line.contains("port ")).collect();
        assert_eq!(
            imports,
            [
                "    import berth:log/log@0.1.0;",
                "    import berth:config/config@0.1.0;",
                "    import berth:kv/kv@0.1.0;",
                "    export berth:hook/handler@0.1.0;",
            ]
        );
        assert!(text.contains("package acme:demo@0.1.0;"), "{text}");
    }

    #[test]
    fn packages_come_with_those_that_they_name() {
        let needed = packages(&manifest("middleware", ""));
        assert!(needed.contains("counters") && needed.contains("types"), "{needed:?}");
        assert!(!needed.contains("hook") && !needed.contains("http-out"), "{needed:?}");
    }

    #[test]
    fn what_is_right_is_not_written_again() {
        let folder = std::env::temp_dir().join(format!("berth-wit-{}", std::process::id()));
        let hook = manifest("hook", "");
        write(&folder, &hook).unwrap();
        let stale = folder.join("wit/deps/addon");
        std::fs::create_dir_all(&stale).unwrap();
        let world = folder.join("wit/world.wit");
        let made = std::fs::metadata(&world).unwrap().modified().unwrap();
        write(&folder, &hook).unwrap();
        let again = std::fs::metadata(&world).unwrap().modified().unwrap();
        let left = stale.exists();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(made, again);
        assert!(!left);
    }
}
