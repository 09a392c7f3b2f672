//! From the start of a container to its first answer: the agent beside runc and Docker, with the
//! same image, one after the other in turn.

use std::fs::File;
use std::io::{Seek, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use acceptance::{Platform, Repository};
use anyhow::{Context, Result, bail};
use berth_blobs::BlobStore;
use berth_container::{Agent, Payload, Reply, Request, Role, Start};
use berth_model::image::Image;
use berth_model::{AppId, Digest, InstanceId, Limits};

use crate::answer;
use crate::docker::Docker;
use crate::report::{Bound, Report, median};
use crate::runc::Runc;

const ROUNDS: usize = 9;
const TAG: &str = "bench";
/// The kernel takes down namespaces, mounts and control groups of the container before in the
/// background; nobody is to be measured with another one's clearing up.
const SETTLE: Duration = Duration::from_millis(300);

/// Deploys the static sample, then starts its image again and again in three ways.
///
/// # Errors
/// What any of them says.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("bench").tempdir_in("/var/lib/berth-test")?;
    let mut platform = Platform::start_with("");
    Repository::of_sample("static-site").deploy(&platform, "site");
    let releases: serde_json::Value =
        serde_json::from_str(&platform.must(&["releases", "list", "--app", "site", "--json"]))?;
    let digest: Digest = releases["items"][0]["image"].as_str().context("no image")?.parse()?;
    // The bench asks the agent in berthd's place: a berthd would end what it does not know.
    platform.kill();

    let blobs = BlobStore::open(platform.data.join("blobs"))?;
    let layout = scratch.path().join("layout");
    berth_image::to_folder(&blobs, digest, TAG, &layout)?;
    let mut own = Own::new(&platform.data, berth_image::load(&blobs, digest)?)?;
    let mut runc = Runc::new(&layout, TAG, scratch.path())?;
    let docker = Docker::start()?;
    docker.load(&layout, TAG, TAG)?;

    let mut samples: [Vec<f64>; 3] = Default::default();
    // The first round warms up; each round begins with another one.
    for turn in 0..3 * (ROUNDS + 1) {
        let which = (turn + turn / 3) % 3;
        std::thread::sleep(SETTLE);
        let time = match which {
            0 => own.once()?,
            1 => with_runc(&mut runc)?,
            _ => with_docker(&docker)?,
        };
        if turn >= 3 {
            samples[which].push(time);
        }
    }
    let [own, runc, docker] = samples;
    let to = |other: &[f64]| vec![median(&own) / median(other)];
    let (to_runc, to_docker) = (to(&runc), to(&docker));
    report.row("start to first answer: berth-agent", "ms", own);
    report.row("start to first answer: runc run", "ms", runc);
    report.row("start to first answer: docker run", "ms", docker);
    report.bounded("berth-agent / runc run", "", to_runc, Bound::Mark(1.5));
    report.bounded("berth-agent / docker run", "", to_docker, Bound::Mark(0.3));
    Ok(())
}

fn with_runc(runc: &mut Runc) -> Result<f64> {
    let begun = Instant::now();
    let running = runc.run()?;
    let came = answer::first(runc.address(), "/")?;
    runc.end(running)?;
    Ok((came - begun).as_secs_f64() * 1e3)
}

fn with_docker(docker: &Docker) -> Result<f64> {
    let begun = Instant::now();
    let container = docker.run(TAG)?;
    let came = answer::first(container.address, "/")
        .with_context(|| format!("the container said: {}", docker.logs(&container)))?;
    docker.remove(&container)?;
    Ok((came - begun).as_secs_f64() * 1e3)
}

/// The agent of a platform, asked as `berthd` asks it.
struct Own {
    runtime: tokio::runtime::Runtime,
    agent: Agent,
    image: Image,
    payload: Vec<u8>,
}

impl Own {
    fn new(data: &Path, image: Image) -> Result<Self> {
        let id = std::fs::read_to_string(data.join("id"))?;
        let web = image
            .manifest
            .processes
            .get(&"web".parse()?)
            .context("the image has no web process")?;
        let own = |(name, value): (&String, &String)| (name.clone(), value.clone());
        let payload = Payload {
            argv: web.command.clone(),
            env: image
                .env
                .iter()
                .map(own)
                .chain([("PORT".to_owned(), "5000".to_owned())])
                .collect(),
            working_dir: web.working_dir.clone(),
        };
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            agent: Agent::at(format!("/run/berth/{}/agent.sock", id.trim())),
            payload: serde_json::to_vec(&payload)?,
            image,
        })
    }

    /// Starts an instance, waits for its answer and stops it; the milliseconds to the answer.
    fn once(&mut self) -> Result<f64> {
        let mut random = [0; 10];
        getrandom(&mut random)?;
        let instance = InstanceId::new(1, random);
        let start = Request::Start(Start {
            instance,
            app: AppId::new(1, [1; 10]),
            block: 1000,
            role: Role::Instance,
            layers: self.image.layers.iter().map(|layer| layer.diff_id).collect(),
            limits: Limits::default(),
            tty: None,
            stdin: false,
            time_ms_max: 0,
            volumes: Vec::new(),
            links: Vec::new(),
        });
        let begun = Instant::now();
        let address = match self.call(&start, &[memory(&self.payload)?])? {
            Reply::Started { address: Some(address) } => SocketAddr::from((address, 5000)),
            other => bail!("the agent said {other:?}"),
        };
        let came = answer::first(address, "/")?;
        self.call(&Request::Stop { instance, grace_ms: 1000 }, &[])?;
        Ok((came - begun).as_secs_f64() * 1e3)
    }

    fn call(&self, request: &Request, descriptors: &[OwnedFd]) -> Result<Reply> {
        Ok(self.runtime.block_on(self.agent.call(request, descriptors))?.0)
    }
}

fn getrandom(into: &mut [u8]) -> Result<()> {
    use std::io::Read;
    Ok(File::open("/dev/urandom")?.read_exact(into)?)
}

/// A memory file, read from its start by whoever gets it.
fn memory(bytes: &[u8]) -> Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("payload", flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}
