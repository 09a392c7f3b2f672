//! Runs cases: detection, and where the buildpack fits, the build with tools that only seem to run.

use std::path::Path;

use anyhow::{Context, Result};
use berth_build::trial::{Seen, Trial};
use berth_extensions::buildpack::{BuildpackError, Output, Require, Verdict};
use serde_json::{Value, json};

use super::case::{Case, Detected};
use super::{Loaded, Test};
use crate::ext_tools::print;

/// How a case ended.
enum End {
    /// It does not fit.
    Unfit(String),
    /// It builds.
    Built(Box<Output>),
    /// It returned an error: code and message.
    Error(String, String),
    /// It was ended, or the host was.
    Broken(String),
}

pub(super) async fn run(options: &Test) -> Result<bool> {
    let loaded = Loaded::read(&options.component).await?;
    let mut failed = 0_usize;
    for path in &options.cases {
        let case = Case::read(path)?;
        let (end, seen) = one(&loaded, &case, path).await?;
        let problems = judge(&case, &end, &seen);
        failed += usize::from(!problems.is_empty());
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let value = json!({
            "case": name, "ok": problems.is_empty(), "problems": problems,
            "end": end_json(&end), "log": seen.log, "calls": seen.calls,
        });
        print(options.json, &value, &report(&name, &end, &seen, &problems));
    }
    let all = options.cases.len();
    if !options.json {
        let text = format!("-----> {} of {all} cases passed", all - failed);
        print(false, &Value::Null, &text);
    }
    Ok(failed == 0)
}

async fn one(loaded: &Loaded, case: &Case, path: &Path) -> Result<(End, Seen)> {
    let app = case.app(path);
    if !app.is_dir() {
        anyhow::bail!("{}: there is no folder {} with its app", path.display(), app.display());
    }
    let scratch = tempfile::tempdir().context("cannot make a folder for the case")?;
    let id = loaded.manifest.id.as_str();
    let trial = Trial::new(id, &app, case.given(), scratch.path())
        .with_context(|| app.display().to_string())?;
    let end = match trial.detect(&loaded.component).await {
        Ok(Verdict::Fail(reason)) => End::Unfit(reason),
        Ok(Verdict::Pass(_)) => {
            let requires: Vec<Require> = case.requires.iter().map(require).collect();
            match trial.build(&loaded.component, &requires).await {
                Ok(output) => End::Built(Box::new(output)),
                Err(error) => ended(error),
            }
        }
        Err(error) => ended(error),
    };
    Ok((end, trial.seen()))
}

fn require(require: &super::case::Require) -> Require {
    Require { name: require.name.clone(), metadata: json!(require.metadata).to_string() }
}

fn ended(error: BuildpackError) -> End {
    match error {
        BuildpackError::Failure(failure) => End::Error(failure.code, failure.message),
        other => End::Broken(other.to_string()),
    }
}

/// What is not as it was expected.
fn judge(case: &Case, end: &End, seen: &Seen) -> Vec<String> {
    let expect = &case.expect;
    let mut problems = seen.problems.clone();
    match (end, expect.detect, &expect.error) {
        (End::Error(code, _), _, Some(wanted)) if code == wanted => {}
        (End::Unfit(reason), Detected::Fail, None) => {
            let wanted = expect.reason.as_deref().unwrap_or_default();
            if !reason.contains(wanted) {
                problems.push(format!("the reason is '{reason}', which has no '{wanted}'"));
            }
        }
        (End::Built(output), Detected::Pass, None) => {
            problems.extend(processes(case, output));
        }
        // It said itself what is wrong.
        (End::Broken(_), _, _) if !problems.is_empty() => {}
        (end, detect, error) => {
            let wanted = match (error, detect) {
                (Some(code), _) => format!("the error '{code}'"),
                (None, Detected::Pass) => "that it fits and builds".to_owned(),
                (None, Detected::Fail) => "that it does not fit".to_owned(),
            };
            problems.push(format!("{wanted} was expected, but {}", said(end)));
        }
    }
    if let Some(wanted) = expect.calls.as_ref().filter(|wanted| **wanted != seen.calls) {
        problems.push(format!("it asked the host for {:?}, not {wanted:?}", seen.calls));
    }
    for wanted in &expect.log {
        if !seen.log.iter().any(|line| line.contains(wanted.as_str())) {
            problems.push(format!("no line of the log has '{wanted}'"));
        }
    }
    for (path, wanted) in &expect.files {
        match seen.files.get(path).map(|bytes| String::from_utf8_lossy(bytes)) {
            Some(text) if text.contains(wanted.as_str()) => {}
            Some(_) => problems.push(format!("the file {path} has no '{wanted}'")),
            None => problems.push(format!("it wrote no file {path}")),
        }
    }
    problems
}

fn processes(case: &Case, output: &Output) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, wanted) in &case.expect.processes {
        match output.processes.iter().find(|process| process.name == *name) {
            Some(process) if process.command == *wanted => {}
            Some(process) => {
                let is = &process.command;
                problems.push(format!("the process {name} is {is:?}, not {wanted:?}"));
            }
            None => problems.push(format!("it proposes no process {name}")),
        }
    }
    problems
}

fn said(end: &End) -> String {
    match end {
        End::Unfit(reason) => format!("it does not fit: {reason}"),
        End::Built(_) => "it fits and builds".to_owned(),
        End::Error(code, message) => format!("it returned the error '{code}': {message}"),
        End::Broken(reason) => reason.clone(),
    }
}

fn end_json(end: &End) -> Value {
    match end {
        End::Unfit(reason) => json!({ "detect": "fail", "reason": reason }),
        End::Built(output) => {
            let process = |one: &berth_extensions::buildpack::Process| json!({ "name": one.name, "command": one.command });
            let processes: Vec<Value> = output.processes.iter().map(process).collect();
            json!({ "detect": "pass", "processes": processes, "release": output.release })
        }
        End::Error(code, message) => json!({ "error": code, "message": message }),
        End::Broken(reason) => json!({ "broken": reason }),
    }
}

fn report(name: &str, end: &End, seen: &Seen, problems: &[String]) -> String {
    let mark = if problems.is_empty() { "ok    " } else { "FAILED" };
    let mut text = format!("{mark} {name}: {}\n", said(end).replace('\n', "\n       "));
    for problem in problems {
        text.push_str(&format!(" !     {}\n", problem.replace('\n', "\n       ")));
    }
    if !problems.is_empty() {
        for line in &seen.log {
            text.push_str(&format!("       log: {}\n", line.trim_start()));
        }
    }
    text
}
