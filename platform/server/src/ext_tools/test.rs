//! Runs cases, each in a host of its own, and says what they used of their limits.

use std::path::Path;

use anyhow::Result;
use berth_extensions::Limits;
use berth_extensions::powers::{Session, Usage};
use serde_json::{Value, json};

use super::call::{End, Ended, Loaded};
use super::case::{Case, difference, recording};
use super::component::{Component, engine};
use super::host::{Answers, AuthorHost, Seen};
use super::{Test, print, recording as exchanges};

/// Share of a limit from which a case is remarked on, percent.
const NEAR_PERCENT: u64 = 80;

pub(super) async fn run(options: &Test) -> Result<bool> {
    let component = Component::read(&options.component)?;
    let mut failed = 0_usize;
    for path in &options.cases {
        let (ended, seen, problems) = one(&component, path, options.record).await?;
        failed += usize::from(!problems.is_empty());
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let value = json!({
            "case": name, "ok": problems.is_empty(), "problems": problems,
            "end": end_json(&ended.end), "usage": ended.usage,
            "log": seen.log, "calls": seen.calls,
        });
        print(options.json, &value, &report(&name, &component.limits, &ended, &seen, &problems));
    }
    let all = options.cases.len();
    if !options.json {
        let text = format!("-----> {} of {all} cases passed", all - failed);
        print(false, &Value::Null, &text);
    }
    Ok(failed == 0)
}

/// Runs one case and judges it.
async fn one(
    component: &Component,
    path: &Path,
    record: bool,
) -> Result<(Ended, Seen, Vec<String>)> {
    let mut case = Case::read(path)?;
    let answers = if record {
        let capabilities = &component.manifest.capabilities;
        let named = capabilities.secrets.iter().chain(&capabilities.secrets_read);
        case.real_secrets(named.map(|secret| secret.name.clone()));
        Answers::Sent
    } else {
        Answers::Recorded
    };
    let known = if record { Vec::new() } else { exchanges::read(&recording(path))? };
    let host = AuthorHost::new(&case, &component.manifest, answers, known);
    let loaded = Loaded::load(&engine()?, component, &case, &host).await?;
    let session = Session {
        extension: component.manifest.id.clone(),
        allowed: component.allowed(),
        config: component.config(&case.config)?,
        host: std::sync::Arc::clone(&host) as _,
        limits: component.limits,
    };
    let ended = loaded.call(&case, session).await?;
    let seen = host.seen();
    if record && !seen.exchanges.is_empty() {
        exchanges::write(&recording(path), &seen.exchanges.iter().cloned().collect::<Vec<_>>())?;
    }
    let problems = judge(&case, &ended, &seen, record);
    Ok((ended, seen, problems))
}

/// What is not as it was expected.
fn judge(case: &Case, ended: &Ended, seen: &Seen, record: bool) -> Vec<String> {
    let expect = &case.expect;
    let mut problems = Vec::new();
    match (&ended.end, &expect.error, &expect.fault) {
        (End::Output(output), None, None) => {
            let wanted = expect.output.as_ref();
            problems.extend(wanted.and_then(|wanted| difference(wanted, output, "output")));
        }
        (End::Error(code, _), Some(wanted), None) if code == wanted => {}
        (End::Fault(code, _), None, Some(wanted)) if code == wanted => {}
        (end, error, fault) => {
            let wanted = match (error, fault) {
                (Some(code), _) => format!("the error '{code}'"),
                (None, Some(code)) => format!("the end '{code}'"),
                (None, None) => "an output".to_owned(),
            };
            problems.push(format!("{wanted} was expected, but {}", said(end)));
        }
    }
    problems.extend(seen.unrecorded.clone());
    if !record {
        for left in &seen.exchanges {
            let asked = &left.request;
            problems.push(format!(
                "{} {} is in the recording but was not sent",
                asked.method, asked.url
            ));
        }
    }
    for wanted in &expect.log {
        if !seen.log.iter().any(|(_, line)| line.contains(wanted.as_str())) {
            problems.push(format!("no line of the log has '{wanted}'"));
        }
    }
    if let Some(wanted) = expect.calls.as_ref().filter(|wanted| **wanted != seen.calls) {
        problems.push(format!("it asked the host for {:?}, not {wanted:?}", seen.calls));
    }
    for (key, wanted) in &expect.kv {
        let kept = seen.kv.get(key).map(|value| String::from_utf8_lossy(value).into_owned());
        if kept.as_ref() != Some(wanted) {
            problems.push(format!("kv '{key}' is {kept:?}, not {wanted:?}"));
        }
    }
    problems
}

pub(super) fn said(end: &End) -> String {
    match end {
        End::Output(output) => format!("it gave {output}"),
        End::Error(code, message) => format!("it returned the error '{code}': {message}"),
        End::Fault(code, message) => format!("it was ended ('{code}'): {message}"),
        End::Host(reason) => reason.clone(),
    }
}

pub(super) fn end_json(end: &End) -> Value {
    match end {
        End::Output(output) => json!({ "output": output }),
        End::Error(code, message) => json!({ "error": code, "message": message }),
        End::Fault(code, message) => json!({ "fault": code, "message": message }),
        End::Host(reason) => json!({ "host": reason }),
    }
}

fn report(name: &str, limits: &Limits, ended: &Ended, seen: &Seen, problems: &[String]) -> String {
    let mark = if problems.is_empty() { "ok    " } else { "FAILED" };
    let mut text = format!("{mark} {name}: {}\n", budget(&ended.usage, limits));
    for problem in problems {
        text.push_str(&format!(" !     {}\n", problem.replace('\n', "\n       ")));
    }
    if !problems.is_empty() {
        for (level, line) in &seen.log {
            text.push_str(&format!("       log {level}: {line}\n"));
        }
    }
    text
}

/// "used 3.1 of 50 ms CPU, 2.1 of 16 MiB, 3 of 32 host calls".
pub(super) fn budget(usage: &Usage, limits: &Limits) -> String {
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let mut text =
        format!("used {:.1} of {} ms CPU", usage.cpu_us as f64 / 1000.0, limits.cpu_ms_max);
    // A middleware's instance serves many calls, so what one of them holds is not told.
    if usage.memory_peak_bytes > 0 {
        text.push_str(&format!(
            ", {:.1} of {:.0} MiB, {} of {} host calls",
            mib(usage.memory_peak_bytes),
            mib(limits.memory_bytes_max),
            usage.host_calls,
            limits.host_calls_max
        ));
    }
    let near = |used: u64, max: u64| used.saturating_mul(100) >= max.saturating_mul(NEAR_PERCENT);
    let tight = near(usage.cpu_us, u64::from(limits.cpu_ms_max) * 1000)
        || near(usage.memory_peak_bytes, limits.memory_bytes_max)
        || near(usage.host_calls, limits.host_calls_max);
    if tight {
        text.push_str("; little is left: it will be cut off on a busier day");
    }
    text
}
