//! Pushes of the samples: of a commit that changes nothing to the end of its build, of one changed
//! line to the first answer of the new release; and the same line by `docker build` and
//! `docker run`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use acceptance::{Platform, Repository};
use anyhow::{Context, Result, ensure};

use crate::answer;
use crate::report::{Bound, Report, median};

const ROUNDS: usize = 5;
/// Between two looks at the app while it is changed.
const LOOK: Duration = Duration::from_millis(3);

/// A sample and the line of it that is changed.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) folder: &'static str,
    pub(crate) file: &'static str,
    /// What is replaced.
    pub(crate) greeting: &'static str,
    /// Where the app shows it.
    pub(crate) path: &'static str,
    pub(crate) dockerfile: &'static str,
}

/// One push, seen from outside.
struct Pushed {
    begun: Instant,
    /// Each line of the push output and when it came.
    lines: Vec<(Instant, String)>,
    /// git ended.
    ended: Instant,
}

impl Pushed {
    fn ms(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.begun).as_secs_f64() * 1e3
    }

    fn built(&self) -> Result<f64> {
        let built = self.lines.iter().find(|(_, line)| line.contains("-----> Built"));
        Ok(self.ms(built.context("the push output says nothing of a build")?.0))
    }
}

/// Measures a sample on a platform on which it is not deployed yet.
///
/// # Errors
/// What the platform or git says; a request that failed meanwhile.
pub(crate) fn measure(
    report: &mut Report,
    platform: &Platform,
    sample: &Sample,
) -> Result<Vec<f64>> {
    let repository = Repository::of_sample(sample.folder);
    repository.deploy(platform, sample.name);

    let mut empty = Vec::new();
    for round in 0..ROUNDS {
        repository.commit(&format!("Nothing, {round}"));
        empty.push(push(&repository, platform, sample.name)?);
    }
    let times = empty.iter().map(Pushed::built).collect::<Result<Vec<_>>>()?;
    let what = format!("{}: empty commit, push to the end of its build", sample.name);
    report.bounded(what, "ms", times.clone(), Bound::Mark(300.0));
    steps(report, &empty, &times);

    let mut changed = Vec::new();
    let mut times = Vec::new();
    let path = repository.path().join(sample.file);
    let source = std::fs::read_to_string(&path)?;
    ensure!(source.contains(sample.greeting), "{} has no {:?}", sample.file, sample.greeting);
    for round in 0..=ROUNDS {
        let greeting = format!("Round {round} of {}", std::process::id());
        std::fs::write(&path, source.replace(sample.greeting, &greeting))?;
        repository.commit("One line");
        let (pushed, came) = push_watched(&repository, platform, sample, &greeting)?;
        if round > 0 {
            times.push(pushed.ms(came));
            changed.push(pushed);
        }
    }
    let what = format!("{}: one line, push to the first answer", sample.name);
    report.bounded(what, "ms", times.clone(), Bound::Mark(1000.0));
    steps(report, &changed, &times);
    Ok(times)
}

/// Where the time of the push in the middle goes: the headings of its output as they came.
fn steps(report: &mut Report, pushes: &[Pushed], times: &[f64]) {
    let middle = median(times);
    let nearest = |a: &(&Pushed, &f64), b: &(&Pushed, &f64)| {
        (a.1 - middle).abs().total_cmp(&(b.1 - middle).abs())
    };
    let Some((pushed, _)) = pushes.iter().zip(times).min_by(nearest) else { return };
    for (at, line) in &pushed.lines {
        if let Some(heading) = line.strip_prefix("-----> ").or(line.strip_prefix("=====> ")) {
            report.detail(heading, "ms", pushed.ms(*at));
        }
    }
    report.detail("git push ends", "ms", pushed.ms(pushed.ended));
}

/// Pushes and looks at the app all the time; every look must be answered with 200. Gives the first
/// answer that holds `text`.
fn push_watched(
    repository: &Repository,
    platform: &Platform,
    sample: &Sample,
    text: &str,
) -> Result<(Pushed, Instant)> {
    let host = format!("{}.localhost", sample.name);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| -> Result<Instant> {
            while !over.load(Ordering::Relaxed) {
                let answer = answer::get(platform.http, &host, sample.path)
                    .context("while it was changed")?;
                ensure!(answer.status == 200, "while it was changed {host} said {}", answer.text);
                if answer.text.contains(text) {
                    return Ok(answer.came);
                }
                std::thread::sleep(LOOK);
            }
            anyhow::bail!("the new release of {host} did not answer")
        });
        let pushed = push(repository, platform, sample.name);
        // The switch comes before the push ends.
        std::thread::sleep(Duration::from_secs(u64::from(!looking.is_finished())));
        over.store(true, Ordering::Relaxed);
        let came = looking.join().map_err(|_| anyhow::anyhow!("looking at {host} failed"))?;
        Ok((pushed?, came?))
    })
}

fn push(repository: &Repository, platform: &Platform, app: &str) -> Result<Pushed> {
    let mut command = repository.push_command(platform, app, &["HEAD:main"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().context("cannot start git")?;
    let stderr = child.stderr.take().context("git has no standard error")?;
    let mut lines = Vec::new();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        let line = line.strip_prefix("remote: ").unwrap_or(&line).trim_end().to_owned();
        lines.push((Instant::now(), line));
    }
    let status = child.wait()?;
    let ended = Instant::now();
    let said = || lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n");
    ensure!(status.success(), "the push of {app} failed:\n{}\n{}", said(), platform.log());
    Ok(Pushed { begun, lines, ended })
}

/// Copies a sample for `docker build`.
///
/// # Errors
/// When it cannot be copied.
pub(crate) fn context(sample: &Sample, into: &Path) -> Result<()> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(sample.folder);
    crate::docker::output(
        std::process::Command::new("cp").arg("-r").arg(format!("{}/.", from.display())).arg(into),
    )?;
    Ok(std::fs::write(into.join("Dockerfile"), sample.dockerfile)?)
}
