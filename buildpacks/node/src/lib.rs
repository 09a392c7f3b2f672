//! The `node` buildpack: any Node of the inventory, the app's own package manager and lock file, its
//! build script, and a process that starts it; or, for a site, the files that `static` serves.
//!
//! Without a build script the dependencies are a layer keyed by the files that decide them, so a
//! change of source alone installs nothing and starts no build container. With one, the tree is
//! built in place from a kept installation, pruned, and what is left of it becomes that layer.

mod install;
mod manager;
mod package;
mod runtime;
mod version;

use berth_buildpack_kit::site::Kind;
use berth_buildpack_kit::{
    Build, Context, Detect, Failure, Outcome, Output, Require, fail, failure, has, info, log,
    output, pass, plan, process, settings, warn,
};
use package::Package;

struct Node;

impl Detect for Node {
    fn detect(_: Context) -> Result<Outcome, Failure> {
        let Some(package) = Package::read()? else {
            return fail("there is no package.json");
        };
        Ok(match package.kind() {
            Kind::Site { .. } => {
                pass(vec![plan(&["node", "site-build"], &["node"]), plan(&["node"], &["node"])])?
            }
            _ => pass(vec![plan(&["node"], &["node"])])?,
        })
    }
}

impl Build for Node {
    fn build(_: Context, requires: Vec<Require>) -> Result<Output, Failure> {
        let package =
            Package::read()?.ok_or_else(|| failure("no-package", "there is no package.json."))?;
        // `static` serves what the build script makes: neither Node nor packages are in the image.
        let site = requires.iter().any(|require| require.name == "site-build");
        let node = runtime::choose(&package)?;
        log::header(&format!("Node.js {} ({})", node.version, node.reason));
        let manager = manager::choose(&package, &node.version)?;
        let runtime = runtime::install(&node, &manager, !site)?;
        install::install(&package, &manager, &runtime, site)?;

        let mut output = output();
        let own = settings::processes()?;
        if !site && own.iter().all(|(name, _)| name != "web") {
            match package.kind() {
                Kind::Server(command) => {
                    let command = package.direct(&command).unwrap_or(command);
                    info(&format!("The web process is: {}", command.join(" ")));
                    let command: Vec<&str> = command.iter().map(String::as_str).collect();
                    output.processes.push(process("web", &command));
                }
                _ if own.is_empty() && !has("Staticfile") => {
                    warn(
                        "No web process: package.json has no start script, and there is no server.js. Add one of them or a Procfile.",
                    );
                }
                _ => {}
            }
        }
        Ok(output)
    }
}

berth_buildpack_kit::export!(Node with_types_in berth_buildpack_kit::bindings);
