//! Python: componentize-py makes a component with an interpreter in it, of a class that handles
//! requests or of a WSGI application.

use berth_buildpack_kit::settings::{Table, Value};
use berth_buildpack_kit::{
    Failure, failure_at, has, info, layer, layers, log, shell, source, text, tools,
};
use serde_json::json;

use crate::{BARE, COMPONENT, FILE, main_file, world};

/// Files that are taken where the app names none.
const USUAL: [&str; 6] =
    ["app.py", "main.py", "wsgi.py", "src/app.py", "src/main.py", "src/wsgi.py"];
const COMPONENTIZE: &str = "0.25.1";
const INTEGRITY: &str = "sha256-hiPNjKuEU8sM2L8D88cQNCDQby89NgGGooCnChyl6J8=";
/// The Python that componentize-py puts into the component.
const PYTHON: &str = "3.14";
const WSGI: &str = include_str!("python/berth_wsgi.py");
/// Raised when the recipe of a layer changes.
const RECIPE: u32 = 1;

pub(crate) struct Project {
    /// The file that answers requests.
    main: String,
    /// Where modules are looked for, below the workspace.
    root: String,
    /// The file as a module.
    module: String,
    packages: Packages,
}

/// What is installed beside the app.
enum Packages {
    None,
    Requirements,
    /// `[project] dependencies` of `pyproject.toml`.
    Listed(Vec<String>),
}

impl Project {
    /// What is to be built.
    pub(crate) fn find(settings: &Table) -> Result<Self, Failure> {
        let main = main_file::find(settings, "Python", &USUAL)?;
        let (root, file) = match main.strip_prefix("src/") {
            Some(file) => ("/src", file),
            None => ("", main.as_str()),
        };
        let module = file.strip_suffix(".py").map(|path| path.replace('/', "."));
        let Some(module) = module.filter(|module| module.split('.').all(is_name)) else {
            return Err(failure_at(
                "no-module",
                "berth.toml",
                None,
                format!(
                    "'{main}' cannot be imported: a Python file is named NAME.py, with letters, digits and underscores, as are the folders that it lies in."
                ),
            ));
        };
        Ok(Self { root: root.to_owned(), module, packages: packages()?, main })
    }

    /// Builds it and gives the path of the component.
    pub(crate) fn build(self) -> Result<String, Failure> {
        log::header(&format!("Wasm app in Python: {}", self.main));
        let key = json!({ "recipe": RECIPE, "version": COMPONENTIZE, "source": source::digest(&["**".to_owned()]) });
        let (component, same) = layer(COMPONENT, &["cache"], &key)?;
        let made = component.path() + "/" + FILE;
        if same {
            info("The component is kept from the last build: the source has not changed");
            return Ok(made);
        }
        let tool = componentize()?;
        let installed = self.packages.install()?;
        let wit = world::write()?;
        let glue = layers::open("glue", &[])?;
        let own = text(&self.main)?.unwrap_or_default();
        // A class of this name answers requests itself; anything else is taken for WSGI.
        let module = if own.lines().any(|line| line.starts_with("class IncomingHandler")) {
            self.module.clone()
        } else {
            let text = WSGI.replace("MAIN_FILE", &self.main).replace("MAIN", &self.module);
            glue.write("berth_wsgi.py", text.as_bytes(), false)?;
            "berth_wsgi".to_owned()
        };
        let paths = [Some(format!("/workspace{}", self.root)), installed, Some(glue.path())];
        let paths: Vec<String> =
            paths.into_iter().flatten().map(|path| format!("-p {path}")).collect();
        let script = format!(
            "{BARE} PYTHONPATH={tool} python3 -c 'import componentize_py; componentize_py.script()' -d {wit} -w {} componentize {} {module} -o {made}",
            world::NAME,
            paths.join(" "),
        );
        let step = shell(&script)
            .title(&format!("making a component with componentize-py {COMPONENTIZE}"))
            .writes(COMPONENT);
        step.run()?.or_fail("componentize", "The lines above say why. Modules are imported once while the app is built, up to its first request, so nothing at their top may wait for the network or for files.")?;
        Ok(made)
    }
}

impl Packages {
    /// A folder with the packages, if there are any.
    fn install(&self) -> Result<Option<String>, Failure> {
        let (files, what) = match self {
            Self::None => return Ok(None),
            Self::Requirements => (
                ["requirements.txt", "requirements-*.txt", "requirements/*.txt", "constraints.txt"]
                    .map(str::to_owned)
                    .to_vec(),
                "requirements.txt",
            ),
            Self::Listed(_) => (vec!["pyproject.toml".to_owned()], "dependencies.txt"),
        };
        let key = json!({ "recipe": RECIPE, "python": PYTHON, "files": source::digest(&files) });
        let (layer, same) = layer("packages", &["cache"], &key)?;
        let path = layer.path();
        if same {
            info("Packages are kept from the last build: nothing that decides them has changed");
            return Ok(Some(format!("{path}/packages")));
        }
        if let Self::Listed(lines) = self {
            layer.write("dependencies.txt", format!("{}\n", lines.join("\n")).as_bytes(), false)?;
        }
        let script = format!(
            "python3 -m pip --cache-dir /caches/pip install --no-compile --target packages --only-binary :all: --implementation py --abi none --platform any --python-version {PYTHON} --requirement {what}"
        );
        let step = shell(&script)
            .title(&format!("pip install --requirement {what}"))
            .inputs(&files)
            .at(&path)
            .cache("pip")
            .network("python")
            .writes("packages");
        step.run()?.or_fail("pip", "The lines above are pip's own. A Wasm app takes packages that are pure Python, as wheels: one with code in C has none that fits.")?;
        Ok(Some(format!("{path}/packages")))
    }
}

/// Where the dependencies are named.
fn packages() -> Result<Packages, Failure> {
    if has("requirements.txt") {
        return Ok(Packages::Requirements);
    }
    if has("uv.lock") {
        return Err(failure_at(
            "uv-lock",
            "uv.lock",
            None,
            "uv.lock is not read for a Wasm app. Write its packages into a requirements.txt: 'uv export --no-hashes --output-file requirements.txt'.",
        ));
    }
    let Some(text) = text("pyproject.toml")? else { return Ok(Packages::None) };
    let table: Table =
        text.parse().map_err(|error: berth_buildpack_kit::settings::TomlError| {
            failure_at(
                "pyproject",
                "pyproject.toml",
                None,
                format!("pyproject.toml: {}", error.message()),
            )
        })?;
    let lines = table
        .get("project")
        .and_then(|project| project.get("dependencies"))
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
        .unwrap_or_default();
    Ok(if lines.is_empty() { Packages::None } else { Packages::Listed(lines) })
}

/// componentize-py, out of its wheel.
fn componentize() -> Result<String, Failure> {
    let key = json!({ "recipe": RECIPE, "version": COMPONENTIZE });
    let (layer, same) = layer("componentize-py", &["cache"], &key)?;
    let path = layer.path();
    if same {
        info(&format!("componentize-py {COMPONENTIZE} is kept from the last build"));
        return Ok(path);
    }
    let wheel = tools::fetch("python", "componentize-py", COMPONENTIZE, INTEGRITY)?;
    let step = shell(&format!("python3 -m zipfile -e {wheel} ."))
        .title(&format!("unpacking componentize-py {COMPONENTIZE}"))
        .quiet()
        .inputs(&[])
        .at(&path)
        .cache("python")
        .writes("componentize-py");
    step.run()?.or_fail("unpack", "componentize-py could not be unpacked.")?;
    Ok(path)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
