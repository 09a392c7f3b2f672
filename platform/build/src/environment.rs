//! Environment variables: what layers set, and what every step gets. Pure.

use std::collections::BTreeMap;

/// PATH of every container.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The host's trust store, as the agent mounts it into build containers.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// When a variable is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    All,
    Build,
    Launch,
}

/// How a variable is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Override,
    Default,
    Append,
    Prepend,
}

/// One change that a layer makes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Change {
    pub(crate) phase: Phase,
    pub(crate) operation: Operation,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// What a layer does to the environment.
pub(crate) struct Effect<'a> {
    /// `/layers/<buildpack>/<layer>`.
    pub(crate) path: &'a str,
    /// Directories at its top, of those in [`TOPS`].
    pub(crate) tops: &'a [String],
    pub(crate) changes: &'a [Change],
}

/// Directories at the top of a layer that are put on a path: the directory, the variable, and
/// whether it also is one at launch (Buildpack API 0.12, "Layer Paths").
const PATHS: [(&str, &str, bool); 5] = [
    ("bin", "PATH", true),
    ("lib", "LD_LIBRARY_PATH", true),
    ("lib", "LIBRARY_PATH", false),
    ("include", "CPATH", false),
    ("pkgconfig", "PKG_CONFIG_PATH", false),
];

/// Names of [`PATHS`].
pub(crate) const TOPS: [&str; 4] = ["bin", "lib", "include", "pkgconfig"];

/// Applies layers in the order of buildpacks and then of names, so that a later buildpack's
/// directories come first in PATH.
pub(crate) fn apply<'a>(
    env: &mut BTreeMap<String, String>,
    phase: Phase,
    layers: impl IntoIterator<Item = Effect<'a>>,
) {
    for layer in layers {
        for (directory, name, launch) in PATHS {
            if (launch || phase == Phase::Build) && layer.tops.iter().any(|top| top == directory) {
                change(env, Operation::Prepend, name, &format!("{}/{directory}", layer.path));
            }
        }
        for made in layer.changes {
            if made.phase == Phase::All || made.phase == phase {
                change(env, made.operation, &made.name, &made.value);
            }
        }
    }
}

fn change(env: &mut BTreeMap<String, String>, operation: Operation, name: &str, value: &str) {
    let there = env.get(name).filter(|there| !there.is_empty()).cloned();
    let value = match (operation, there) {
        (Operation::Default, Some(there)) => there,
        (Operation::Append, Some(there)) => format!("{there}:{value}"),
        (Operation::Prepend, Some(there)) => format!("{value}:{there}"),
        (_, _) => value.to_owned(),
    };
    env.insert(name.to_owned(), value);
}

/// Environment of an image before its layers.
pub(crate) fn of_image() -> BTreeMap<String, String> {
    [("HOME", "/workspace"), ("LANG", "C.UTF-8"), ("PATH", PATH), ("PORT", "5000")].map(pair).into()
}

/// Variables that a build tool gets before the app's configuration, which may change them.
pub(crate) fn of_step() -> BTreeMap<String, String> {
    [
        ("CI", "true"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("LANG", "C.UTF-8"),
        ("NO_COLOR", "1"),
        ("PATH", PATH),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_NO_INPUT", "1"),
        ("PIP_PROGRESS_BAR", "off"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONHASHSEED", "0"),
        ("PYTHONUNBUFFERED", "1"),
        ("STACK", "debian-12"),
        ("TERM", "dumb"),
        ("TZ", "UTC"),
        ("UV_NO_PROGRESS", "1"),
        ("UV_PYTHON_DOWNLOADS", "never"),
        ("YARN_ENABLE_TELEMETRY", "0"),
        ("npm_config_audit", "false"),
        ("npm_config_color", "false"),
        ("npm_config_fund", "false"),
        ("npm_config_progress", "false"),
        ("npm_config_update_notifier", "false"),
    ]
    .map(pair)
    .into()
}

/// Variables without which a step cannot work: the way out, the trust store, the clock of
/// reproducible builds. They are set after the configuration.
pub(crate) fn required(source_date_epoch_s: i64) -> BTreeMap<String, String> {
    let proxy = format!("http://127.0.0.1:{}", berth_container::PROXY_PORT);
    let local = "localhost,127.0.0.1,::1";
    let proxied = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "YARN_HTTPS_PROXY",
        "YARN_HTTP_PROXY",
        "http_proxy",
        "https_proxy",
        "npm_config_https_proxy",
        "npm_config_proxy",
        "CARGO_HTTP_PROXY",
    ];
    let trusted = [
        "CARGO_HTTP_CAINFO",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "NODE_EXTRA_CA_CERTS",
        "PIP_CERT",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "YARN_HTTPS_CA_FILE_PATH",
        "npm_config_cafile",
    ];
    let mut env: BTreeMap<String, String> =
        proxied.map(|name| (name.to_owned(), proxy.clone())).into();
    env.extend(trusted.map(|name| pair((name, CERTIFICATES))));
    env.extend(
        [("NO_PROXY", local), ("no_proxy", local), ("HOME", "/tmp"), ("NODE_USE_ENV_PROXY", "1")]
            .map(pair),
    );
    env.insert("SOURCE_DATE_EPOCH".to_owned(), source_date_epoch_s.to_string());
    env
}

fn pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Whether a variable of the configuration changes what a package manager does: layers of an
/// earlier build are not used again when one of these changed.
pub(crate) fn steers_tools(name: &str) -> bool {
    const BEGINNINGS: [&str; 12] = [
        "BP_",
        "BUN_",
        "CARGO_",
        "COREPACK_",
        "NODE_",
        "NPM_",
        "PIP_",
        "PNPM_",
        "PYTHON",
        "RUST",
        "UV_",
        "YARN_",
    ];
    let name = name.to_ascii_uppercase();
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || matches!(name.as_str(), "CC" | "CFLAGS" | "CXX" | "CXXFLAGS" | "LDFLAGS")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(rows: &[(Phase, Operation, &str, &str)]) -> Vec<Change> {
        rows.iter()
            .map(|(phase, operation, name, value)| Change {
                phase: *phase,
                operation: *operation,
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect()
    }

    fn resolved(phase: Phase, layers: &[(&str, &[&str], Vec<Change>)]) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([pair(("PATH", "/bin"))]);
        let tops: Vec<Vec<String>> = layers
            .iter()
            .map(|(_, tops, _)| tops.iter().map(|top| (*top).to_owned()).collect())
            .collect();
        let effects = layers.iter().zip(&tops).map(|((path, _, changes), tops)| Effect {
            path,
            tops,
            changes,
        });
        apply(&mut env, phase, effects);
        env
    }

    #[test]
    fn each_operation_does_what_the_specification_says() {
        use Operation::{Append, Default, Override, Prepend};
        let rows = changes(&[
            (Phase::All, Override, "A", "1"),
            (Phase::All, Override, "A", "2"),
            (Phase::All, Default, "A", "3"),
            (Phase::All, Default, "B", "4"),
            (Phase::All, Append, "C", "5"),
            (Phase::All, Append, "C", "6"),
            (Phase::All, Prepend, "C", "7"),
        ]);
        let env = resolved(Phase::Launch, &[("/layers/x/y", &[], rows)]);
        assert_eq!((env["A"].as_str(), env["B"].as_str(), env["C"].as_str()), ("2", "4", "7:5:6"));
    }

    #[test]
    fn a_phase_sees_its_own_changes_and_those_for_all() {
        let rows = changes(&[
            (Phase::All, Operation::Override, "A", "all"),
            (Phase::Build, Operation::Override, "B", "build"),
            (Phase::Launch, Operation::Override, "C", "launch"),
        ]);
        let env = resolved(Phase::Build, &[("/layers/x/y", &[], rows.clone())]);
        assert_eq!(env.keys().map(String::as_str).collect::<Vec<_>>(), ["A", "B", "PATH"]);
        let env = resolved(Phase::Launch, &[("/layers/x/y", &[], rows)]);
        assert_eq!(env.keys().map(String::as_str).collect::<Vec<_>>(), ["A", "C", "PATH"]);
    }

    #[test]
    fn directories_of_later_layers_come_first_and_compilers_paths_are_for_builds_alone() {
        let tops: &[&str] = &["bin", "lib", "include", "pkgconfig"];
        let layers = [("/layers/a/x", tops, Vec::new()), ("/layers/b/y", tops, Vec::new())];
        let launch = resolved(Phase::Launch, &layers);
        assert_eq!(launch["PATH"], "/layers/b/y/bin:/layers/a/x/bin:/bin");
        assert_eq!(launch["LD_LIBRARY_PATH"], "/layers/b/y/lib:/layers/a/x/lib");
        assert!(!launch.contains_key("CPATH") && !launch.contains_key("LIBRARY_PATH"));
        let build = resolved(Phase::Build, &layers);
        assert_eq!(build["CPATH"], "/layers/b/y/include:/layers/a/x/include");
        assert_eq!(build["PKG_CONFIG_PATH"], "/layers/b/y/pkgconfig:/layers/a/x/pkgconfig");
    }

    #[test]
    fn tools_variables_are_known_by_how_they_begin() {
        for name in [
            "NPM_TOKEN",
            "npm_config_registry",
            "PIP_INDEX_URL",
            "UV_INDEX_URL",
            "NODE_ENV",
            "CFLAGS",
        ] {
            assert!(steers_tools(name), "{name}");
        }
        for name in ["DATABASE_URL", "SECRET_KEY", "PORT", "GREETING"] {
            assert!(!steers_tools(name), "{name}");
        }
    }
}
