//! What a `package.json` is for: a server that runs, or a site that is built once and then served as
//! files. `node` and `static` must agree on it, so both ask here. Pure.

use serde_json::Value;

/// What `package.json` says that is run or served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A server; the command that starts it.
    Server(Vec<String>),
    /// Files that the build script makes in this directory of the workspace.
    Site {
        /// Relative to the workspace.
        directory: String,
        /// Unknown paths get `index.html`.
        spa: bool,
    },
    /// Neither: tools for a site that is served as it is, or workers that a Procfile names.
    Tools,
}

/// Tools that make a site, the directory each writes to, and whether its router runs in the browser.
const MAKERS: [(&str, &str, bool); 9] = [
    ("vite", "dist", true),
    ("react-scripts", "build", true),
    ("@vue/cli-service", "dist", true),
    ("astro", "dist", false),
    ("parcel", "dist", true),
    ("gatsby", "public", false),
    ("@11ty/eleventy", "_site", false),
    ("@docusaurus/core", "build", false),
    ("vitepress", ".vitepress/dist", false),
];

/// Start scripts that run a development server, which is not meant for production.
const DEVELOPMENT: [&str; 10] = [
    "vite",
    "vite dev",
    "vite serve",
    "react-scripts start",
    "vue-cli-service serve",
    "astro dev",
    "parcel",
    "gatsby develop",
    "eleventy --serve",
    "docusaurus start",
];

/// Judges a `package.json`. `has` says whether the source has a file, `config` gives the text of the
/// first file of these names.
pub fn kind(
    package: &Value,
    has: impl Fn(&str) -> bool,
    config: impl Fn(&[&str]) -> Option<String>,
) -> Kind {
    let script = |name: &str| {
        package["scripts"][name].as_str().map(str::trim).filter(|line| !line.is_empty())
    };
    let depends = |name: &str| {
        ["dependencies", "devDependencies"].iter().any(|list| package[list].get(name).is_some())
    };
    let serves = script("start").filter(|line| {
        !DEVELOPMENT.iter().any(|dev| line == dev || line.starts_with(&format!("{dev} --")))
    });
    if serves.is_some() {
        return Kind::Server(words(&["npm", "start"]));
    }
    if has("server.js") {
        return Kind::Server(words(&["node", "server.js"]));
    }
    if script("build").is_some()
        && let Some((tool, directory, spa)) = MAKERS.into_iter().find(|(tool, ..)| depends(tool))
    {
        let chosen = (tool == "vite")
            .then(|| {
                config(&["vite.config.js", "vite.config.ts", "vite.config.mjs", "vite.config.mts"])
            })
            .flatten()
            .and_then(|text| out_dir(&text));
        return Kind::Site { directory: chosen.unwrap_or_else(|| directory.to_owned()), spa };
    }
    let main = package["main"].as_str().map(|main| main.trim_start_matches("./").to_owned());
    let main = main
        .into_iter()
        .chain(["index.js", "app.js", "main.js"].map(str::to_owned))
        .find(|file| has(file));
    match main {
        Some(file) if !has("index.html") => Kind::Server(words(&["node", &file])),
        _ => Kind::Tools,
    }
}

/// `outDir: "…"` of a Vite configuration, when it is a plain path inside the project.
fn out_dir(text: &str) -> Option<String> {
    let rest = text.split_once("outDir")?.1.trim_start().strip_prefix(':')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let path = rest[1..].split(quote).next()?.trim_start_matches("./").trim_end_matches('/');
    let inside = !path.is_empty()
        && !path.starts_with('/')
        && !path.split('/').any(|part| part == ".." || part.is_empty());
    inside.then(|| path.to_owned())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(package: &str, files: &[&str], config: Option<&str>) -> Kind {
        let package = serde_json::from_str(package).unwrap();
        kind(&package, |path| files.contains(&path), |_| config.map(str::to_owned))
    }

    fn server(line: &str) -> Kind {
        Kind::Server(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn a_start_script_is_a_server() {
        assert_eq!(
            judge(r#"{"scripts":{"start":"node ./bin/www"}}"#, &["app.js"], None),
            server("npm start")
        );
    }

    #[test]
    fn without_one_the_usual_files_are_tried() {
        assert_eq!(judge("{}", &["server.js", "index.js"], None), server("node server.js"));
        assert_eq!(
            judge(r#"{"main":"./lib/run.js"}"#, &["lib/run.js"], None),
            server("node lib/run.js")
        );
        assert_eq!(judge("{}", &["index.js"], None), server("node index.js"));
        assert_eq!(judge("{}", &["index.js", "index.html"], None), Kind::Tools);
        assert_eq!(judge("{}", &[], None), Kind::Tools);
    }

    #[test]
    fn a_site_is_built_and_then_served() {
        let vite = r#"{"scripts":{"dev":"vite","build":"vite build","preview":"vite preview"},"devDependencies":{"vite":"^5"}}"#;
        let site = |directory: &str, spa| Kind::Site { directory: directory.to_owned(), spa };
        assert_eq!(judge(vite, &["index.html"], None), site("dist", true));
        assert_eq!(
            judge(vite, &[], Some("export default { build: { outDir: './out/web/' } }")),
            site("out/web", true)
        );
        assert_eq!(judge(vite, &[], Some("build: { outDir: '../elsewhere' }")), site("dist", true));
        let astro = r#"{"scripts":{"start":"astro dev","build":"astro build"},"dependencies":{"astro":"4"}}"#;
        assert_eq!(judge(astro, &[], None), site("dist", false));
        let react = r#"{"scripts":{"start":"react-scripts start","build":"react-scripts build"},"dependencies":{"react-scripts":"5"}}"#;
        assert_eq!(judge(react, &[], None), site("build", true));
    }

    #[test]
    fn a_server_that_also_builds_its_assets_stays_a_server() {
        let both = r#"{"scripts":{"start":"node server.mjs","build":"vite build"},"devDependencies":{"vite":"5"}}"#;
        assert_eq!(judge(both, &["index.html"], None), server("npm start"));
    }
}
