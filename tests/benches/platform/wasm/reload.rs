//! How soon a new version of an extension serves, from the moment its built file appears in the
//! folder that the platform follows.

use std::path::Path;
use std::time::{Duration, Instant};

use acceptance::Platform;
use acceptance::extensions::{api, basic_auth, put, reworded, with_section};
use anyhow::{Result, bail, ensure};
use reqwest::Method;

use super::{Size, name};
use crate::answer;
use crate::report::{Bound, Report};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(20);
/// What the versions answer whom they do not let in.
const SAYS: [&str; 2] = ["BASIC realm", "basic realm"];

/// Reloads a middleware under the eyes of its users.
///
/// # Errors
/// When a version does not come, or the platform cannot be asked.
pub(super) fn measure(
    report: &mut Report,
    platform: &Platform,
    folder: &Path,
    size: &Size,
) -> Result<()> {
    let app = name(0);
    let host = format!("{app}.localhost");
    let id = basic_auth(platform, &app);
    let mut took = Vec::new();
    for (round, says) in (0..size.rounds).zip(SAYS.into_iter().cycle()) {
        // Never one that was compiled before.
        let version = with_section(reworded(says), "bench", round.to_string().as_bytes());
        let begun = put(folder, &version);
        took.push(until(platform, &host, says, begun)?);
    }
    let what = "a new version of a middleware: from its file in the folder to its first answer";
    report.bounded(what, "ms", took, Bound::Mark(1_000.0));
    api(platform, Method::DELETE, &format!("/{id}"), None);
    Ok(())
}

/// Milliseconds until the app's door says this.
fn until(platform: &Platform, host: &str, says: &str, begun: Instant) -> Result<f64> {
    while begun.elapsed() < PATIENCE {
        let answer = answer::get(platform.http, host, "/")?;
        ensure!(answer.status == 401, "{host} answered: {}", answer.text);
        if answer.text.contains(says) {
            return Ok((answer.came - begun).as_secs_f64() * 1e3);
        }
        std::thread::sleep(PAUSE);
    }
    bail!("{host} never said {says:?}: is its file refused? `berth ext logs` says why")
}
