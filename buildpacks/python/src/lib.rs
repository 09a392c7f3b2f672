//! The `python` buildpack: a virtual environment with what `requirements.txt`, `pyproject.toml` or
//! `uv.lock` names, a server where the app brings none, and a process that starts the app.
//!
//! The environment is a layer of its own, keyed by the files that decide its contents, so a change
//! of source alone installs nothing. Bytecode carries no times, so the layer is the same wherever
//! it is made.

mod app;
mod install;
mod project;
mod requirements;
mod server;
mod version;

use berth_buildpack_kit::{
    Build, Context, Detect, Failure, Outcome, Output, Require, fail, failure_at, has, info,
    inventory, log, output, pass, plan, settings, shell, text, warn,
};
use project::Project;

struct Python;

impl Detect for Python {
    fn detect(_: Context) -> Result<Outcome, Failure> {
        match project::find()? {
            Ok(_) => pass(vec![plan(&["python"], &["python"])]),
            Err(reason) => fail(reason),
        }
    }
}

impl Build for Python {
    fn build(_: Context, _: Vec<Require>) -> Result<Output, Failure> {
        let project = project::find()?
            .map_err(|reason| berth_buildpack_kit::failure("no-project", reason))?;
        let python = python(&project)?;
        log::header(&format!("Python {}", python.version));
        if has("package.json") {
            info(
                "There is a package.json too. To build it as well: berth.toml, [build] buildpacks = [\"node\", \"python\"]",
            );
        }
        let installed = install::install(&project, &python)?;
        let mut output = output();
        if settings::processes()?.iter().all(|(name, _)| name != "web") {
            match app::find(&installed)? {
                Some(found) => output.processes.push(server::process(&found, &installed)?),
                None => warn(
                    "No web process: nothing that looks like a Django, FastAPI or Flask app was found. Name it in berth.toml ([python] app = \"module:variable\") or add a Procfile.",
                ),
            }
        }
        collect_static(&installed)?;
        Ok(output)
    }
}

/// An interpreter of the inventory.
pub(crate) struct Interpreter {
    pub(crate) version: String,
    pub(crate) program: String,
}

/// The version that the app asks for.
fn python(project: &Project) -> Result<Interpreter, Failure> {
    let entries = inventory::entries("python", "python");
    let versions: Vec<String> = entries.iter().map(|entry| entry.version.clone()).collect();
    if has("runtime.txt") && !has(".python-version") {
        return Err(failure_at(
            "runtime-txt",
            "runtime.txt",
            None,
            format!(
                "runtime.txt is not read any more. Remove it and write the version into .python-version, such as {}.",
                short(&versions)
            ),
        ));
    }
    let refuse = |file: &str, wanted: &str| {
        let message = format!(
            "{file} asks for Python {wanted}, which is not in the inventory. There are: {}.",
            versions.join(", ")
        );
        failure_at("no-python", file, None, message)
    };
    let wanted = text(".python-version")?.map(|text| version::pinned(&text));
    let chosen = match wanted {
        Some(Ok(wanted)) => versions
            .iter()
            .find(|version| version::fits(version, &wanted))
            .ok_or_else(|| refuse(".python-version", &wanted))?,
        Some(Err(problem)) => {
            return Err(failure_at("python-version", ".python-version", None, problem));
        }
        None => versions.first().ok_or_else(|| refuse("the platform", "at all"))?,
    };
    if let Some(required) = &project.requires_python
        && !version::satisfies(chosen, required)
    {
        return Err(refuse("pyproject.toml", required));
    }
    let entry = entries.iter().find(|entry| entry.version == *chosen);
    let program = entry.and_then(|entry| entry.extra.iter().find(|(name, _)| name == "program"));
    Ok(Interpreter {
        version: chosen.clone(),
        program: program
            .map_or_else(|| "/usr/bin/python3".to_owned(), |(_, program)| program.clone()),
    })
}

fn short(versions: &[String]) -> String {
    versions
        .first()
        .map(|version| version.split('.').take(2).collect::<Vec<_>>().join("."))
        .unwrap_or_default()
}

/// Django's static files, where the app says where they go.
fn collect_static(installed: &install::Installed) -> Result<(), Failure> {
    if !has("manage.py") || !installed.has("django") {
        return Ok(());
    }
    let settings = berth_buildpack_kit::source::glob(
        &["**/settings.py", "**/settings/*.py", "**/settings_*.py"].map(str::to_owned),
    );
    let mut named = false;
    for file in settings.iter().take(50) {
        let text = text(file)?.unwrap_or_default();
        named |= text.lines().any(|line| line.trim_start().starts_with("STATIC_ROOT"));
    }
    if !named {
        info("Static files are not collected: no settings file sets STATIC_ROOT");
        return Ok(());
    }
    log::header("Collecting Django's static files");
    shell("if [ -n \"${DISABLE_COLLECTSTATIC:-}\" ] && [ \"$DISABLE_COLLECTSTATIC\" != 0 ]; then echo 'DISABLE_COLLECTSTATIC is set: nothing is collected'; else exec python manage.py collectstatic --noinput; fi")
        .title("python manage.py collectstatic --noinput")
        .writes("workspace")
        .run()?
        .or_fail("collectstatic", "The lines above are Django's. To leave this out, set DISABLE_COLLECTSTATIC=1 with 'berth config set'.")?;
    Ok(())
}

berth_buildpack_kit::export!(Python with_types_in berth_buildpack_kit::bindings);
