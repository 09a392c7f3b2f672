//! What the app declares, and in which form.

use berth_buildpack_kit::settings::{Table, Value};
use berth_buildpack_kit::{Failure, failure_at, has, source, text};

use crate::requirements;

/// Most requirement files that name one another.
const FILES_MAX: usize = 50;

/// Files that another tool would understand, and what to do about them.
const OTHERS: [(&str, &str); 6] = [
    (
        "poetry.lock",
        "poetry.lock is not supported: run 'poetry export -o requirements.txt', or move to uv",
    ),
    ("Pipfile.lock", "Pipfile.lock is not supported: run 'pipenv requirements > requirements.txt'"),
    ("Pipfile", "Pipfile is not supported: write a requirements.txt"),
    ("environment.yml", "conda environments are not supported: write a requirements.txt"),
    ("setup.py", "there is a setup.py alone: add a requirements.txt with the line '.'"),
    ("manage.py", "there is a manage.py but no requirements.txt: add one that names Django"),
];

/// Names that people meant to be `requirements.txt`.
const MISSPELT: [&str; 8] = [
    "Requirements.txt",
    "requirement.txt",
    "requirments.txt",
    "requierments.txt",
    "requirements.text",
    "requirements",
    "requirements.txt.txt",
    "requirments",
];

/// How dependencies are installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// `pip install -r requirements.txt`.
    Requirements,
    /// `uv sync --locked`.
    Uv,
    /// The `dependencies` of `pyproject.toml`, one per line.
    Dependencies(Vec<String>),
    /// `pip install .`, because only the project's own build says what it needs.
    Dynamic,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    pub(crate) form: Form,
    /// Files that decide what is installed.
    pub(crate) files: Vec<String>,
    /// The installation needs the whole tree.
    pub(crate) whole_tree: bool,
    /// The project is a package of its own, to be installed beside its dependencies.
    pub(crate) package: bool,
    pub(crate) requires_python: Option<String>,
}

/// The project, or why there is none.
pub(crate) fn find() -> Result<Result<Project, String>, Failure> {
    let pyproject = pyproject()?;
    let project =
        pyproject.as_ref().and_then(|table| table.get("project")).and_then(Value::as_table);
    let requires_python = project
        .and_then(|project| project.get("requires-python"))
        .and_then(Value::as_str)
        .map(str::to_owned);
    let package = pyproject.as_ref().is_some_and(|table| table.contains_key("build-system"));
    if has("uv.lock") {
        if has("requirements.txt") {
            return Err(failure_at(
                "two-files",
                "requirements.txt",
                None,
                "there is a requirements.txt and a uv.lock. Remove the one that is not meant.",
            ));
        }
        if pyproject.is_none() {
            return Err(failure_at(
                "no-pyproject",
                "uv.lock",
                None,
                "there is a uv.lock but no pyproject.toml. Commit both.",
            ));
        }
        let files = names(&["pyproject.toml", "uv.lock", "uv.toml"]);
        return Ok(Ok(Project {
            form: Form::Uv,
            files,
            whole_tree: package,
            package,
            requires_python,
        }));
    }
    if has("requirements.txt") {
        let (files, whole_tree) = requirement_files()?;
        return Ok(Ok(Project {
            form: Form::Requirements,
            files,
            whole_tree,
            package: false,
            requires_python,
        }));
    }
    let Some(table) = &pyproject else { return Ok(Err(reason())) };
    let files = names(&["pyproject.toml", "setup.py", "setup.cfg"]);
    let dynamic = project.and_then(|project| project.get("dynamic")).and_then(Value::as_array);
    let dynamic =
        dynamic.is_some_and(|list| list.iter().any(|item| item.as_str() == Some("dependencies")));
    let form = match project {
        Some(_) if dynamic => Form::Dynamic,
        Some(project) => Form::Dependencies(dependencies(project)?),
        None if table.get("tool").is_some_and(|tool| tool.get("poetry").is_some()) => return Ok(Err(OTHERS[0].1.to_owned())),
        None if package => Form::Dynamic,
        None => return Ok(Err("pyproject.toml has no [project] and no [build-system], and there is no requirements.txt".to_owned())),
    };
    Ok(Ok(Project { whole_tree: form == Form::Dynamic, form, files, package, requires_python }))
}

fn pyproject() -> Result<Option<Table>, Failure> {
    let Some(text) = text("pyproject.toml")? else { return Ok(None) };
    match text.parse() {
        Ok(table) => Ok(Some(table)),
        Err(error) => {
            let error: berth_buildpack_kit::settings::TomlError = error;
            let line = error
                .span()
                .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let at = line.map(|line| format!(", line {line}")).unwrap_or_default();
            Err(failure_at(
                "pyproject",
                "pyproject.toml",
                line,
                format!("pyproject.toml{at}: {}", error.message()),
            ))
        }
    }
}

fn dependencies(project: &Table) -> Result<Vec<String>, Failure> {
    let Some(list) = project.get("dependencies") else { return Ok(Vec::new()) };
    let wrong = || {
        failure_at(
            "pyproject",
            "pyproject.toml",
            None,
            "'dependencies' of [project] in pyproject.toml must be a list of texts.",
        )
    };
    list.as_array()
        .ok_or_else(wrong)?
        .iter()
        .map(|item| {
            item.as_str().filter(|line| !line.contains('\n')).map(str::to_owned).ok_or_else(wrong)
        })
        .collect()
}

/// `requirements.txt` and every file that it names, and whether something comes from the tree.
fn requirement_files() -> Result<(Vec<String>, bool), Failure> {
    let mut files = vec!["requirements.txt".to_owned()];
    let mut whole_tree = false;
    let mut next = 0;
    while let Some(file) = files.get(next).cloned() {
        next += 1;
        let lines = requirements::read(&text(&file)?.unwrap_or_default());
        whole_tree |= lines.local;
        for named in lines.files {
            match requirements::beside(&file, &named) {
                Some(path) if files.contains(&path) => {}
                Some(path) if has(&path) && files.len() < FILES_MAX => files.push(path),
                Some(path) => {
                    let message =
                        format!("{file} names the file '{path}', which is not in the commit.");
                    return Err(failure_at("no-file", &file, None, message));
                }
                // A URL, or a path that leaves the tree: pip says what it makes of it.
                None => whole_tree = true,
            }
        }
    }
    Ok((files, whole_tree))
}

fn reason() -> String {
    let other = OTHERS.iter().find(|(file, _)| has(file)).map(|(_, reason)| (*reason).to_owned());
    let misspelt = MISSPELT
        .iter()
        .find(|file| has(file))
        .map(|file| format!("there is a file '{file}'; did you mean requirements.txt?"));
    let scripts = || {
        let found = source::glob(&["*.py".to_owned()]);
        found.first().map(|file| format!("there is {file}, but no requirements.txt, pyproject.toml or uv.lock; an empty requirements.txt will do"))
    };
    misspelt
        .or(other)
        .or_else(scripts)
        .unwrap_or_else(|| "there is no requirements.txt, pyproject.toml or uv.lock".to_owned())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().filter(|name| has(name)).map(|&name| name.to_owned()).collect()
}
