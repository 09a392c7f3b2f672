//! Dependencies and the build script.

use berth_buildpack_kit::{Failure, Step, info, layer, log, shell, source, warn, workspace};
use serde_json::{Value, json};

use crate::manager::{Manager, Tool};
use crate::package::Package;
use crate::runtime::{Runtime, modules_committed};

/// Raised when the recipe changes.
const RECIPE: u32 = 1;
const MODULES: &str = "/layers/node/modules";
const DEV: &str = "/layers/node/dev";
/// Files of package managers with times or absolute paths in them, which no program reads later.
const TIDY: &str = "rm -f node_modules/.modules.yaml node_modules/.pnpm-workspace-state*.json\n\
find node_modules -type f -path '*/build/*' \\( -name Makefile -o -name config.gypi -o -name gyp-mac-tool -o -name '*.d' -o -name '*.o' \\) -delete 2>/dev/null || true";

/// Installs and builds. Afterwards `/workspace/node_modules` holds, or leads to, what the app needs.
pub(crate) fn install(
    package: &Package,
    manager: &Manager,
    runtime: &Runtime,
    site: bool,
) -> Result<(), Failure> {
    if modules_committed() {
        warn(
            "node_modules is in the commit; it is replaced. Remove it from git: 'git rm -r --cached node_modules'.",
        );
    }
    workspace::remove(&["node_modules".to_owned()])?;
    let build = package.build_script();
    if let Some(reason) = package
        .needs_tree()
        .or_else(|| (manager.tool == Tool::Berry).then(|| "Yarn 2 and later".to_owned()))
    {
        log::header(&format!(
            "Installing packages with {} {} in place ({reason} needs the whole tree)",
            manager.tool.name(),
            manager.version
        ));
        return in_place(manager, runtime, build, site);
    }
    match build {
        None => production(manager, runtime),
        Some(script) => built(manager, runtime, script, site),
    }
}

/// What decides an installation.
fn key(manager: &Manager, runtime: &Runtime, what: &str) -> Value {
    json!({
        "recipe": RECIPE,
        "what": what,
        "node": runtime.version,
        "manager": format!("{} {}", manager.tool.package(), manager.version),
        "files": source::digest(&files(manager)),
    })
}

fn files(manager: &Manager) -> Vec<String> {
    manager.tool.files().iter().map(|&file| file.to_owned()).collect()
}

/// No build script: production packages in a layer of their own.
fn production(manager: &Manager, runtime: &Runtime) -> Result<(), Failure> {
    let (_, same) = layer("modules", &["launch", "cache"], &key(manager, runtime, "production"))?;
    if same {
        info(
            "Packages are kept from the last build: package.json and the lock file have not changed",
        );
    } else {
        log::header(&format!(
            "Installing packages with {} {}",
            manager.tool.name(),
            manager.version
        ));
        let script = format!("{}\nmkdir -p node_modules\n{TIDY}", command(manager, runtime, false));
        step(&script, manager, "production", false)
            .inputs(&files(manager))
            .at(MODULES)
            .writes("modules")
            .run()?
            .or_fail("install", ADVICE)?;
    }
    workspace::symlink("node_modules", &format!("{MODULES}/node_modules"))
}

/// A build script: everything is installed once and kept, the tree is built with a copy of that, and
/// what is left after pruning is the layer of the image.
fn built(manager: &Manager, runtime: &Runtime, script: &str, site: bool) -> Result<(), Failure> {
    let (_, same) = layer("dev", &["cache"], &key(manager, runtime, "all"))?;
    if same {
        info(
            "Packages are kept from the last build: package.json and the lock file have not changed",
        );
    } else {
        log::header(&format!(
            "Installing packages with {} {}",
            manager.tool.name(),
            manager.version
        ));
        let line = format!("{}\nmkdir -p node_modules", command(manager, runtime, true));
        step(&line, manager, "all", true)
            .inputs(&files(manager))
            .at(DEV)
            .writes("dev")
            .run()?
            .or_fail("install", ADVICE)?;
    }
    log::header(&format!("Running the script '{script}'"));
    let line =
        format!("cp -a {DEV}/node_modules node_modules\n{}", run_script(manager, runtime, script));
    run_build(&line, manager, script)?;
    if site {
        shell("rm -rf node_modules")
            .quiet()
            .writes("workspace")
            .run()?
            .or_fail("tidy", "The packages could not be removed after the build.")?;
        return Ok(());
    }
    let (_, _) = layer("modules", &["launch"], &Value::Null)?;
    let line =
        format!("{}\n{TIDY}\nmv node_modules {MODULES}/node_modules", prune(manager, runtime));
    let step = step(&line, manager, "prune", true).title("pruning development packages").quiet();
    step.writes("modules").writes("workspace").run()?.or_fail("prune", ADVICE)?;
    workspace::symlink("node_modules", &format!("{MODULES}/node_modules"))
}

/// Everything in the tree itself.
fn in_place(
    manager: &Manager,
    runtime: &Runtime,
    build: Option<&str>,
    site: bool,
) -> Result<(), Failure> {
    let all = build.is_some();
    let line = command(manager, runtime, all);
    step(&line, manager, if all { "all" } else { "production" }, all)
        .writes("workspace")
        .run()?
        .or_fail("install", ADVICE)?;
    if let Some(script) = build {
        log::header(&format!("Running the script '{script}'"));
        run_build(&run_script(manager, runtime, script), manager, script)?;
    }
    let line = match (site, all) {
        (true, _) => "rm -rf node_modules".to_owned(),
        (false, true) => format!("{}\n{TIDY}", prune(manager, runtime)),
        (false, false) => TIDY.to_owned(),
    };
    let step = step(&line, manager, "prune", true).title("pruning development packages").quiet();
    step.writes("workspace").run()?.or_fail("prune", ADVICE)?;
    Ok(())
}

const ADVICE: &str = "The lines above are the package manager's own. If the lock file does not match package.json, install once on your machine and commit the lock file.";

fn run_build(line: &str, manager: &Manager, script: &str) -> Result<(), Failure> {
    let title = format!("{} run {script}", manager.tool.name());
    let step = shell(line)
        .title(&title)
        .env("NODE_ENV", "production")
        .cache("node")
        .writes("workspace")
        .network("all");
    step.run()?.or_fail("build-script", "The lines above are the script's own.")?;
    Ok(())
}

/// A step of the package manager. The registry that it needs is that of the role node; install
/// scripts of packages may fetch from elsewhere, which the operator can forbid.
fn step(script: &str, manager: &Manager, what: &str, development: bool) -> Step {
    let title = match what {
        "production" => format!("{} install, production packages", manager.tool.name()),
        _ => format!("{} install, all packages", manager.tool.name()),
    };
    let step = shell(script)
        .title(&title)
        .env("NODE_ENV", if development { "development" } else { "production" })
        // Warnings about the package manager's own code help nobody who reads the log.
        .env("NODE_NO_WARNINGS", "1")
        .env("npm_package_config_node_gyp_nodedir", "/layers/node/headers")
        .cache("node")
        .network("all");
    match manager.tool {
        Tool::Npm => step.env("npm_config_cache", "/caches/node/npm"),
        Tool::Pnpm => step
            .env("npm_config_store_dir", "/caches/node/pnpm")
            .env("npm_config_package_import_method", "copy")
            .env("npm_config_reporter", "append-only"),
        Tool::Yarn => step
            .env("YARN_CACHE_FOLDER", "/caches/node/yarn")
            .env("npm_config_nodedir", "/layers/node/headers"),
        Tool::Berry => step
            .env("YARN_CACHE_FOLDER", "/caches/node/berry")
            .env("YARN_ENABLE_GLOBAL_CACHE", "false"),
    }
}

/// The command that installs, strictly where there is a lock file.
fn command(manager: &Manager, runtime: &Runtime, all: bool) -> String {
    let program = runtime.manager.join(" ");
    match (manager.tool, manager.locked) {
        (Tool::Npm, true) => {
            format!("{program} ci {}", if all { "--include=dev" } else { "--omit=dev" })
        }
        (Tool::Npm, false) => format!(
            "{program} install --no-package-lock {}",
            if all { "--include=dev" } else { "--omit=dev" }
        ),
        (Tool::Pnpm, locked) => {
            format!(
                "{program} install {} {}",
                if locked { "--frozen-lockfile" } else { "--no-frozen-lockfile" },
                if all { "--prod=false" } else { "--prod" }
            )
        }
        (Tool::Yarn, locked) => {
            let strict = if locked { "--frozen-lockfile" } else { "--no-lockfile" };
            format!(
                "{program} install --non-interactive --no-progress {strict} --production={}",
                if all { "false" } else { "true" }
            )
        }
        (Tool::Berry, locked) => {
            let strict = if locked { " --immutable" } else { "" };
            let focus = if all {
                String::new()
            } else {
                format!("\n{program} workspaces focus --all --production")
            };
            format!("{program} install{strict}{focus}")
        }
    }
}

fn run_script(manager: &Manager, runtime: &Runtime, script: &str) -> String {
    let program = runtime.manager.join(" ");
    match manager.tool {
        Tool::Npm | Tool::Pnpm | Tool::Berry => format!("{program} run {script}"),
        Tool::Yarn => format!("{program} --non-interactive run {script}"),
    }
}

/// Takes out what only development needs.
fn prune(manager: &Manager, runtime: &Runtime) -> String {
    let program = runtime.manager.join(" ");
    match manager.tool {
        Tool::Npm => format!("{program} prune --omit=dev --ignore-scripts"),
        Tool::Pnpm => format!("CI=true {program} prune --prod --ignore-scripts"),
        Tool::Yarn => format!(
            "{program} install --non-interactive --no-progress --offline --ignore-scripts --production=true --frozen-lockfile || {program} install --non-interactive --no-progress --ignore-scripts --production=true"
        ),
        Tool::Berry => format!("{program} workspaces focus --all --production"),
    }
}
