//! Which directory is served, and how.

use berth_buildpack_kit::site::{self, Kind};
use berth_buildpack_kit::{Failure, failure_at, has, settings, text};

/// A site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Site {
    /// Relative to the workspace; empty for the workspace itself.
    pub(crate) root: String,
    /// Unknown paths get `index.html`.
    pub(crate) spa: bool,
    /// The directory is made by the node buildpack's build script.
    pub(crate) built: bool,
}

impl Site {
    /// The pattern of its files.
    pub(crate) fn pattern(&self) -> String {
        if self.root.is_empty() { "**".to_owned() } else { format!("{}/**", self.root) }
    }
}

/// The site, or why there is none.
pub(crate) fn find() -> Result<Result<Site, String>, Failure> {
    let named = settings::table("static")?;
    let staticfile = text("Staticfile")?.map(|text| staticfile(&text));
    let root = named.get("root").and_then(settings::Value::as_str).map(str::to_owned);
    let root = root.or_else(|| staticfile.as_ref().and_then(|file| file.root.clone()));
    let spa = named.get("spa").and_then(settings::Value::as_bool);
    let spa = spa.or_else(|| staticfile.as_ref().map(|file| file.spa));
    let explicit = !named.is_empty() || staticfile.is_some();

    let package = package()?;
    if let Some(Kind::Site { directory, spa: routed }) = &package {
        let root = root.map_or_else(|| Ok(directory.clone()), |root| inside(&root))?;
        return Ok(Ok(Site { root, spa: spa.unwrap_or(*routed), built: true }));
    }
    if let (Some(Kind::Server(command)), false) = (&package, explicit) {
        return Ok(Err(format!("package.json has a server of its own ({})", command.join(" "))));
    }
    let root = match root {
        Some(root) => Some(inside(&root)?),
        None => ["", "public"]
            .into_iter()
            .find(|root| has(&join(root, "index.html")))
            .map(str::to_owned),
    };
    Ok(match root {
        Some(root) if has(&join(&root, "index.html")) || explicit => {
            Ok(Site { root, spa: spa.unwrap_or(false), built: false })
        }
        _ => Err("there is no index.html, no public/index.html, no Staticfile and no [static] root in berth.toml".to_owned()),
    })
}

fn package() -> Result<Option<Kind>, Failure> {
    let Some(text) = text("package.json")? else { return Ok(None) };
    let package = serde_json::from_str(&text).map_err(|error| {
        failure_at(
            "package-json",
            "package.json",
            Some(error.line()),
            format!("package.json, line {}: {error}", error.line()),
        )
    })?;
    let config = |names: &[&str]| {
        names.iter().find_map(|name| berth_buildpack_kit::text(name).ok().flatten())
    };
    Ok(Some(site::kind(&package, has, config)))
}

/// A path below the workspace, without `./` and a slash at the end.
fn inside(root: &str) -> Result<String, Failure> {
    let path = root.trim_start_matches("./").trim_end_matches('/');
    let path = if path == "." { "" } else { path };
    // Nothing that would mean something else in nginx's configuration.
    let odd = path.contains(['"', '$', '\\', '{', '}', ';']) || path.chars().any(char::is_control);
    if odd || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(failure_at(
            "outside",
            "berth.toml",
            None,
            format!(
                "the site's root '{root}' is not a directory of the app. Use a plain path relative to the app's top directory."
            ),
        ));
    }
    Ok(path.to_owned())
}

fn join(root: &str, name: &str) -> String {
    if root.is_empty() { name.to_owned() } else { format!("{root}/{name}") }
}

/// The two lines of Cloud Foundry's Staticfile that have a meaning here.
#[derive(Debug, PartialEq, Eq)]
struct Staticfile {
    root: Option<String>,
    spa: bool,
}

fn staticfile(text: &str) -> Staticfile {
    let value = |key: &str| {
        text.lines()
            .filter_map(|line| line.split('#').next()?.split_once(':'))
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
    };
    Staticfile {
        root: value("root").filter(|root| !root.is_empty()),
        spa: matches!(value("pushstate").as_deref(), Some("enabled" | "true")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staticfile_names_the_root_and_the_switch() {
        let file = staticfile("root: dist # built\npushstate: enabled\nunknown\n");
        assert_eq!(file, Staticfile { root: Some("dist".to_owned()), spa: true });
        assert_eq!(staticfile(""), Staticfile { root: None, spa: false });
    }

    #[test]
    fn a_root_outside_the_app_is_refused() {
        assert_eq!(inside("./public/").unwrap(), "public");
        assert_eq!(inside(".").unwrap(), "");
        for bad in ["/etc", "../x", "a/../../b", "a\";b", "$uri"] {
            assert!(inside(bad).is_err(), "{bad}");
        }
    }
}
