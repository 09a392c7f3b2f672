//! What `berth buildpack test|pack` has done by this program, which has the sandbox and the rules of
//! a build.
//!
//! Takes a built buildpack, and cases from files; gives a report. Nothing here talks to a platform,
//! runs a tool or keeps anything but compiled code.

mod case;
mod test;

use std::path::PathBuf;

use anyhow::{Context, Result};
use berth_extensions::buildpack::{Buildpack, Buildpacks};
use berth_extensions::buildpack_manifest;
use berth_model::Digest;
use berth_model::buildpack::BuildpackManifest;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::ext_tools::{bounded, compiled, print};

/// The tools.
#[derive(Subcommand, Debug)]
pub enum BuildpackTool {
    /// Judge a component as a platform would that it is added to
    #[command(hide = true)]
    BuildpackCheck(Check),
    /// Run the cases of a buildpack
    #[command(hide = true)]
    BuildpackTest(Test),
}

/// What is judged.
#[derive(Args, Debug)]
pub struct Check {
    /// Manifest that the component must hold
    pub manifest: PathBuf,
    /// The component
    pub component: PathBuf,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is tested.
#[derive(Args, Debug)]
pub struct Test {
    /// The component
    pub component: PathBuf,
    /// Files of cases; the app of each is the folder of the same name
    #[arg(required = true)]
    pub cases: Vec<PathBuf>,
    /// Print data as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs one; false when what was judged is not good, which the report says.
///
/// # Errors
/// When it could not be judged.
pub fn run(tool: &BuildpackTool) -> Result<bool> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match tool {
            BuildpackTool::BuildpackCheck(options) => check(options).await,
            BuildpackTool::BuildpackTest(options) => test::run(options).await,
        }
    })
}

/// A component that was judged and linked.
struct Loaded {
    manifest: BuildpackManifest,
    digest: Digest,
    bytes: usize,
    component: Buildpack,
}

impl Loaded {
    async fn read(path: &std::path::Path) -> Result<Self> {
        let (bytes, digest) = bounded(path)?;
        let manifest = buildpack_manifest(&bytes).with_context(|| path.display().to_string())?;
        let length = bytes.len();
        let code = compiled(bytes, digest).await?;
        let component = Buildpacks::new()?.load(&code)?;
        Ok(Self { manifest, digest, bytes: length, component })
    }
}

async fn check(options: &Check) -> Result<bool> {
    let loaded = Loaded::read(&options.component).await?;
    let text = std::fs::read_to_string(&options.manifest)
        .with_context(|| format!("cannot read {}", options.manifest.display()))?;
    let manifest = &loaded.manifest;
    if BuildpackManifest::parse(&text)? != *manifest {
        let problem = "buildpack.toml changed since the component was built; build it again: \
                       berth buildpack build";
        let value = json!({ "ok": false, "problem": problem });
        print(options.json, &value, &format!(" !     {problem}"));
        return Ok(false);
    }
    let human = format!(
        "-----> {} {}, {} KiB\n       digest {}",
        manifest.id,
        manifest.version,
        loaded.bytes.div_ceil(1024),
        loaded.digest
    );
    let value = json!({
        "ok": true, "id": manifest.id, "version": manifest.version,
        "digest": loaded.digest.to_string(), "bytes": loaded.bytes,
    });
    print(options.json, &value, &human);
    Ok(true)
}
