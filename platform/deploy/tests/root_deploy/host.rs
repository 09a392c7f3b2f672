//! A data folder with a real agent, and an app image of busybox. Everything is taken down again
//! when it is dropped, also after a failure.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use berth_blobs::BlobStore;
use berth_blobs::tar::{Attributes, Rules, Tree};
use berth_container::{Agent, InstanceStatus, Reply, Request};
use berth_deploy::drivers::wasm::WasmError;
use berth_deploy::{Embedded, Loaded, Reconciler, Settings, WasmHost, WasmLoad};
use berth_model::image::Image;
use berth_model::manifest::HttpCheck;
use berth_model::rollout::Timeouts;
use berth_model::*;

use crate::records::Memory;

/// No Wasm app is deployed in these tests.
pub(crate) struct NoWasm;

impl WasmHost for NoWasm {
    async fn load(&self, _: WasmLoad) -> Result<Loaded, WasmError> {
        Err("there is no Wasm worker in this test".into())
    }

    async fn unload(&self, _: InstanceId) -> Result<(), WasmError> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<InstanceId>, WasmError> {
        Ok(vec![])
    }
}

pub(crate) struct Host {
    data: tempfile::TempDir,
    id: String,
    child: Child,
    pub(crate) agent: Agent,
    blobs: Arc<BlobStore>,
    stack: LayerRef,
    timeouts: Timeouts,
    pub(crate) records: Memory,
    pub(crate) reconciler: Reconciler<Memory, NoWasm>,
}

/// Deadlines that suit tests; what fails in time fails soon.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        check_ms_max: 2500,
        wait_note_ms: 500,
        monitor_ms: 300,
        drain_ms_max: 3000,
        stop_ms_max: 2000,
        alive_ms: 200,
        ..Timeouts::default()
    }
}

fn programs() -> PathBuf {
    match std::env::var_os("BERTH_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        // The test binary lies in TARGET/debug/deps, the programs in TARGET/berth.
        None => std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("berth"),
    }
}

impl Host {
    pub(crate) async fn start() -> Self {
        Self::start_with(timeouts()).await
    }

    pub(crate) async fn start_with(timeouts: Timeouts) -> Self {
        let parent = Path::new("/var/lib/berth-test");
        std::fs::create_dir_all(parent).expect("tests that make containers need root");
        let data = tempfile::Builder::new().prefix("deploy-").tempdir_in(parent).unwrap();
        std::fs::set_permissions(data.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut random = [0; 8];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(data.path().join("id"), &id).unwrap();
        let bin = data.path().join("bin/test");
        std::fs::create_dir_all(&bin).unwrap();
        for program in ["berth-agent", "berth-init"] {
            let from = programs().join(program);
            std::fs::copy(&from, bin.join(program)).unwrap_or_else(|error| {
                panic!("{}: {error}; cargo xtask builds it", from.display())
            });
        }
        let child = serve(data.path());
        let agent = Agent::at(format!("/run/berth/{id}/agent.sock"));
        let blobs = Arc::new(BlobStore::open(data.path().join("blobs")).unwrap());
        let stack = put_stack(&blobs);
        let records = Memory::new();
        let reconciler = reconciler(&agent, &blobs, &records, timeouts);
        reconciler.start();
        Self { data, id, child, agent, blobs, stack, timeouts, records, reconciler }
    }

    /// What a new berthd would do over the same rows and the same agent.
    pub(crate) async fn restart(&mut self) {
        self.reconciler.close();
        self.reconciler.closed().await;
        self.reconciler = reconciler(&self.agent, &self.blobs, &self.records, self.timeouts);
        self.reconciler.start();
    }

    /// Kills the agent and starts it again.
    pub(crate) fn kill_agent(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = serve(self.data.path());
    }

    /// An image whose `/workspace/index.html` says `text`.
    pub(crate) fn image(&self, text: &str) -> Image {
        let mut tree = Tree::new();
        let file = Attributes::PLAIN;
        tree.file(b"workspace/index.html", file, text.len() as u64, text.as_bytes()).unwrap();
        let layer = put(&self.blobs, tree, Rules::App, "app");
        Image {
            digest: layer.diff_id,
            layers: vec![self.stack.clone(), layer],
            env: BTreeMap::from([("FROM_IMAGE".to_owned(), "yes".to_owned())]),
            manifest: Manifest {
                processes: BTreeMap::new(),
                release: None,
                runtime: Runtime::Container,
                formation: BTreeMap::new(),
                wasm: berth_model::manifest::WasmSettings::default(),
            },
        }
    }

    /// A release whose processes are shell lines; `release` is its release phase.
    pub(crate) fn release(&self, app: AppId, text: &str, processes: &[(&str, &str)]) -> ReleaseId {
        let mut image = self.image(text);
        for (name, line) in processes {
            let command = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
            let process = Process { command, working_dir: "/workspace".into(), check: None };
            if *name == "release" {
                image.manifest.release = Some(process);
            } else {
                image.manifest.processes.insert(name.parse().unwrap(), process);
            }
        }
        self.records.release(app, image, &[("GREETING", "hello"), ("SECRET", "s3cr3t")])
    }

    pub(crate) fn check(&self, release: ReleaseId, path: &str) {
        let mut state = self.records.lock();
        let processes = &mut state.releases.get_mut(&release).unwrap().manifest.processes;
        let check = HttpCheck { path: path.to_owned() };
        processes.get_mut(&"web".parse().unwrap()).unwrap().check = Some(check);
    }

    pub(crate) async fn deploy(&self, app: AppId, release: ReleaseId) -> Deployment {
        let id = self.records.deploy(app, release);
        self.reconciler.wake(app);
        self.records.until_ended(id).await
    }

    /// Everything that a deployment told, as the lines of a push.
    pub(crate) async fn told(&self, deployment: DeploymentId) -> String {
        let mut follower = self.reconciler.follow(deployment);
        let mut text = String::new();
        while let Some(progress) = follower.next().await {
            if let berth_deploy::Progress::Line(line) = progress {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    }

    pub(crate) async fn containers(&self) -> Vec<InstanceStatus> {
        match self.agent.call(&Request::List, &[]).await {
            Ok((Reply::Instances { instances }, _)) => instances,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until as many instances are live, and the host runs just these.
    pub(crate) async fn until_only(&self, app: AppId, count: usize) {
        self.records
            .until("only the wanted instances", |state| {
                let rows = || state.instances.values().filter(|row| row.app == app);
                rows().filter(|row| !row.state.is_terminal()).count() == count
                    && rows().all(|row| row.address.is_some() != row.state.is_terminal())
            })
            .await;
        let containers = self.containers().await;
        assert_eq!(containers.len(), count, "{containers:#?}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let (agent, reconciler) = (self.agent.clone(), self.reconciler.clone());
        let down = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                reconciler.close();
                reconciler.closed().await;
                let down = Request::Down { grace_ms: 100 };
                let call = agent.call(&down, &[]);
                tokio::time::timeout(Duration::from_secs(20), call).await.map(drop)
            })?;
            std::io::Result::Ok(())
        });
        let _ = down.join();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log =
                std::fs::read_to_string(self.data.path().join("agent.log")).unwrap_or_default();
            eprintln!("agent.log:\n{log}");
        }
        let _ = std::fs::remove_dir_all(Path::new("/run/berth").join(&self.id));
    }
}

fn serve(data: &Path) -> Child {
    let mut child = Command::new(data.join("bin/test/berth-agent"))
        .args(["serve", "--data"])
        .arg(data)
        .env("BERTH_AGENT_ADDRESS_QUARANTINE_MS", "100")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn reconciler(
    agent: &Agent,
    blobs: &Arc<BlobStore>,
    records: &Memory,
    timeouts: Timeouts,
) -> Reconciler<Memory, NoWasm> {
    let embedded = Embedded::new(agent.clone(), Arc::clone(blobs));
    let settings = Settings { timeouts, period_ms: 1000, run_grace_ms: 500, ..Settings::default() };
    Reconciler::new(records.clone(), embedded, NoWasm, settings)
}

fn put(blobs: &BlobStore, tree: Tree<&[u8]>, rules: Rules, name: &str) -> LayerRef {
    let (bytes, _) = tree.write(Vec::new(), rules, Ok).unwrap();
    let (diff_id, bytes) = blobs.put(&bytes[..], 1 << 30).unwrap();
    LayerRef { diff_id, bytes, name: name.to_owned() }
}

/// Busybox as a whole system.
fn put_stack(blobs: &BlobStore) -> LayerRef {
    let busybox = std::fs::read("/bin/busybox").expect("the package busybox-static");
    let mut tree: Tree<&[u8]> = Tree::new();
    let executable = Attributes::EXECUTABLE;
    tree.file(b"bin/busybox", executable, busybox.len() as u64, &busybox).unwrap();
    for applet in ["sh", "cat", "echo", "env", "sleep", "id", "stty", "dd", "httpd", "tail"] {
        tree.symlink(format!("bin/{applet}").as_bytes(), b"busybox", executable).unwrap();
    }
    let passwd = b"app:x:1000:1000::/workspace:/bin/sh\n";
    tree.file(b"etc/passwd", Attributes::PLAIN, passwd.len() as u64, &passwd[..]).unwrap();
    tree.directory(b"tmp", Attributes { mode: 0o1777, uid: 0, gid: 0 }).unwrap();
    for folder in ["proc", "sys", "dev"] {
        tree.directory(folder.as_bytes(), executable).unwrap();
    }
    put(blobs, tree, Rules::Stack, "stack")
}

/// One request; the body of the answer.
pub(crate) async fn get(address: &TargetAddress) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let TargetAddress::Tcp(address) = address else { panic!("{address:?}") };
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::other(format!("no answer but {answer:?}")))
}
