//! Python: componentize-py makes a component of `extension.py` with an interpreter in it.

use std::path::PathBuf;

use tokio::process::Command;

use super::project::Project;
use super::{build, toolchain};
use crate::failure::Failure;
use crate::output::Output;

/// The version that the guests were tried with.
const COMPONENTIZE: &str = "0.25.1";

/// Runs componentize-py and gives the path of what it made.
pub(crate) async fn build(project: &Project, output: &Output) -> Result<PathBuf, Failure> {
    let python = toolchain::program(
        "python3",
        "install Python 3.10 or newer with venv (Debian: apt-get install python3 python3-venv)",
    )?;
    let tools = toolchain::folder(&format!("componentize-py-{COMPONENTIZE}"), output, |folder| {
        let mut venv = Command::new(&python);
        venv.args(["-m", "venv"]).arg(folder);
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .arg(format!("componentize-py=={COMPONENTIZE}"));
        vec![venv, pip]
    })
    .await
    .map_err(|failure| {
        failure.with_hint(
            "componentize-py needs Python 3.10 or newer with venv and pip (Debian: apt-get install \
                 python3-venv), and the package registry that pip is set to",
        )
    })?;
    let component = build::scratch(project)?.join("extension.wasm");
    // The script names its interpreter by a path that may be too long, or that of a link.
    let mut componentize = Command::new(tools.join("bin/python"));
    componentize
        .arg(tools.join("bin/componentize-py"))
        .current_dir(&project.folder)
        // Modules that a virtual environment has are for other programs than this one.
        .env_remove("VIRTUAL_ENV")
        .env_remove("RUST_BACKTRACE")
        .args(["-d", "wit", "-w", "extension", "componentize", "-p", ".", "extension", "-o"])
        .arg(&component);
    build::tool("Making a component with componentize-py", &mut componentize, output).await?;
    Ok(component)
}
