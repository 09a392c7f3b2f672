//! The virtual environment, a layer keyed by everything that decides its contents.

use std::collections::BTreeSet;

use berth_buildpack_kit::{
    Failure, Layer, Step, failure, info, inventory, layer, layers, log, shell, source, tools,
};
use serde_json::{Value, json};

use crate::Interpreter;
use crate::project::{Form, Project};
use crate::requirements::normal;

/// Raised when the recipe changes.
const RECIPE: u32 = 1;

/// What stands in the environment.
pub(crate) struct Installed {
    packages: BTreeSet<String>,
    /// The environment's interpreter.
    pub(crate) python: String,
}

impl Installed {
    pub(crate) fn has(&self, package: &str) -> bool {
        self.packages.contains(&normal(package))
    }
}

/// Makes the environment, or keeps the one of the last build.
pub(crate) fn install(project: &Project, python: &Interpreter) -> Result<Installed, Failure> {
    let layer = layers::open("packages", &["launch", "build", "cache"].map(str::to_owned))?;
    let path = layer.path();
    let key = key(project, python);
    let restored = layer.restored().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let installed = match restored {
        Some(metadata) if metadata["key"] == key => {
            info("Packages are kept from the last build: nothing that decides them has changed");
            names(&metadata["packages"])
        }
        restored => {
            info(why(restored.as_ref(), &key));
            layer.clear();
            let packages = make(&layer, project, python)?;
            layer.set_metadata(&json!({ "key": key, "packages": packages }).to_string());
            packages
        }
    };
    layer.env("all", "prepend", "PATH", &format!("{path}/venv/bin"));
    layer.env("all", "override", "VIRTUAL_ENV", &format!("{path}/venv"));
    layer.env("launch", "default", "PYTHONUNBUFFERED", "1");
    if source::kind("src") == "directory" && !berth_buildpack_kit::has("src/__init__.py") {
        layer.env("all", "prepend", "PYTHONPATH", "/workspace/src");
    }
    Ok(Installed { packages: installed, python: format!("{path}/venv/bin/python") })
}

/// What decides the contents. A build that sees the whole tree does so through it as well, unless
/// the package is only linked to.
fn key(project: &Project, python: &Interpreter) -> Value {
    let linked = project.package && project.form != Form::Requirements;
    let patterns =
        if project.whole_tree && !linked { vec!["**".to_owned()] } else { project.files.clone() };
    json!({
        "recipe": RECIPE,
        "python": python.version,
        "form": form_name(&project.form),
        "files": source::digest(&patterns),
    })
}

fn form_name(form: &Form) -> &'static str {
    match form {
        Form::Requirements => "requirements",
        Form::Uv => "uv",
        Form::Dependencies(_) => "dependencies",
        Form::Dynamic => "dynamic",
    }
}

/// Says why packages are installed.
fn why(restored: Option<&Value>, key: &Value) -> &'static str {
    let Some(restored) = restored else { return "Installing packages" };
    if restored["key"]["python"] != key["python"] {
        "Installing packages again: the version of Python changed"
    } else if restored["key"]["form"] != key["form"] {
        "Installing packages again: another kind of file names them"
    } else {
        "Installing packages again: the files that name them changed"
    }
}

fn make(
    layer: &Layer,
    project: &Project,
    python: &Interpreter,
) -> Result<BTreeSet<String>, Failure> {
    let path = layer.path();
    match &project.form {
        Form::Uv => uv(&path, project, python)?,
        Form::Requirements => pip(&path, project, python, "--requirement requirements.txt")?,
        Form::Dynamic => pip(&path, project, python, "--editable /workspace")?,
        Form::Dependencies(lines) => {
            layer.write("dependencies.txt", format!("{}\n", lines.join("\n")).as_bytes(), false)?;
            let file = format!("--requirement {path}/dependencies.txt");
            pip(&path, project, python, &file)?;
            if project.package {
                let link = Project { whole_tree: true, ..project.clone() };
                pip(&path, &link, python, "--no-deps --editable /workspace")?;
            }
        }
    }
    finish(&path)
}

/// Installs with the stack's pip, which works on the environment from outside: nothing of pip is in
/// the image.
fn pip(path: &str, project: &Project, python: &Interpreter, what: &str) -> Result<(), Failure> {
    let script = format!(
        "[ -e {path}/venv ] || {program} -m venv --without-pip {path}/venv\n\
         exec {program} -m pip --python {path}/venv/bin/python --cache-dir /caches/pip install --no-compile {what}",
        program = python.program
    );
    let step = shell(&script)
        .title(&format!("pip install {what}"))
        .cache("pip")
        .writes("packages")
        .network("python");
    seeing(step, path, project).run()?.or_fail("pip", "The lines above are pip's own. If a package needs a system library, it may not be in the stack.")?;
    Ok(())
}

fn uv(path: &str, project: &Project, python: &Interpreter) -> Result<(), Failure> {
    let uv = uv_program()?;
    let step = Step::new(&[&uv, "sync", "--locked", "--no-default-groups"])
        .title("uv sync --locked --no-default-groups")
        .env("UV_PROJECT_ENVIRONMENT", &format!("{path}/venv"))
        .env("UV_PYTHON", &python.program)
        .env("UV_CACHE_DIR", "/caches/uv")
        .env("UV_LINK_MODE", "copy")
        .cache("uv")
        .writes("packages")
        .network("python");
    seeing(step, path, project).run()?.or_fail("uv", "The lines above are uv's own. If the lock file is out of date, run 'uv lock' and commit it.")?;
    Ok(())
}

/// uv out of its wheel, kept for later builds.
fn uv_program() -> Result<String, Failure> {
    let entry = inventory::entries("python", "uv").into_iter().next();
    let entry = entry.ok_or_else(|| {
        failure("no-uv", "the inventory has no uv, which this app's uv.lock needs.")
    })?;
    let (uv, same) = layer("uv", &["cache"], &json!({ "version": entry.version }))?;
    let path = uv.path();
    if !same {
        let wheel = tools::fetch("python", "uv", &entry.version, &entry.integrity)?;
        let script = format!(
            "python3 -m zipfile -e {wheel} wheel\nmkdir bin\nmv wheel/*.data/scripts/uv bin/uv\nchmod 0755 bin/uv\nrm -rf wheel"
        );
        let step = shell(&script)
            .title(&format!("unpacking uv {}", entry.version))
            .quiet()
            .inputs(&[])
            .at(&path)
            .cache("python")
            .writes("uv");
        step.run()?.or_fail("no-uv", "uv could not be unpacked.")?;
    }
    Ok(format!("{path}/bin/uv"))
}

/// With the declared files alone where they are enough.
fn seeing(step: Step, path: &str, project: &Project) -> Step {
    if project.whole_tree {
        step
    } else {
        step.at(&format!("{path}/project")).inputs(&project.files)
    }
}

/// Compiles without times in the bytecode, and says what was installed. One process: with several,
/// the same source can give other bytes.
fn finish(path: &str) -> Result<BTreeSet<String>, Failure> {
    const LIST: &str = "import importlib.metadata as m, json; print(json.dumps(sorted({d.metadata['Name'] for d in m.distributions() if d.metadata['Name']})))";
    let script = format!(
        "{path}/venv/bin/python -m compileall -q -j 1 --invalidation-mode unchecked-hash {path}/venv/lib >&2 || true\n\
         rm -rf {path}/project\n\
         exec {path}/venv/bin/python -I -c \"$1\""
    );
    let step = Step::new(&["sh", "-euc", &script, "finish", LIST])
        .title("Compiling packages")
        .quiet()
        .capture()
        .inputs(&[])
        .at(path)
        .writes("packages");
    let listed = step
        .run()?
        .or_fail("compile", "The environment's own Python could not be started.")?
        .stdout();
    let packages = serde_json::from_str(&listed).map_err(|error| {
        failure("compile", format!("the list of installed packages cannot be read: {error}"))
    })?;
    let packages = names(&packages);
    log::line("info", &format!("{} packages installed", packages.len()));
    Ok(packages)
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(normal).collect()
}
