//! A real agent on a data folder of its own, and what tests ask of it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use berth_container::logfile::{LogReader, Reading};
use berth_container::{
    Agent, AgentError, Exit, InstanceStatus, Payload, Reply, Request, Role, Start,
};
use berth_model::{AppId, Digest, InstanceId, Limits};

/// Everything waits no longer than this; a machine that is slow for a reason says so in
/// `BERTH_TEST_PATIENCE_S`.
pub(crate) static PATIENCE: LazyLock<Duration> = LazyLock::new(|| {
    let set = std::env::var("BERTH_TEST_PATIENCE_S").ok();
    Duration::from_secs(set.map_or(20, |seconds| seconds.parse().unwrap()))
});
static NUMBER: AtomicU64 = AtomicU64::new(1);

pub(crate) struct Platform {
    pub(crate) data: PathBuf,
    pub(crate) id: String,
    pub(crate) agent: Agent,
    pub(crate) process: Option<Child>,
    layer: Digest,
    surroundings: Surroundings,
    /// Further options of the agent.
    pub(crate) options: Vec<String>,
}

/// What the agent finds itself in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surroundings {
    Plain,
    /// A mount namespace of its own, where the device that gives loop devices is none.
    NoLoopDevices,
    /// The `control` group of a service that was delegated to it (cgroup v2).
    Delegated,
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    hex::encode(random)
}

/// The static init: the one that was laid out, or built once.
fn init() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(programs) = std::env::var_os("BERTH_PROGRAMS") {
            return Path::new(&programs).join("berth-init");
        }
        let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "berth-init", "--target", &triple])
            .status()
            .unwrap();
        assert!(status.success(), "berth-init does not build for {triple}");
        let agent = Path::new(env!("CARGO_BIN_EXE_berth-agent"));
        let target = agent.parent().and_then(Path::parent).unwrap();
        target.join(triple).join("debug/berth-init")
    })
}

/// Whether this machine has control groups of version 2 alone.
pub(crate) fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A root file system of busybox alone.
fn plant(tree: &Path) {
    for folder in ["bin", "etc", "tmp", "proc", "sys", "dev", "workspace"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(tree.join("workspace"), Some(1000), Some(1000)).unwrap();
    fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines() {
        if applet != "busybox" {
            symlink("busybox", tree.join("bin").join(applet)).unwrap();
        }
    }
    fs::write(
        tree.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/workspace:/bin/sh\n",
    )
    .unwrap();
}

impl Platform {
    /// A data folder with one layer, and an agent that serves it.
    pub(crate) fn new() -> Self {
        Self::within(Surroundings::Plain, |_| {})
    }

    /// The same, with a data folder that `prepare` worked on before anything is in it.
    pub(crate) fn within(surroundings: Surroundings, prepare: impl FnOnce(&Path)) -> Self {
        let mut platform = Self::prepared(surroundings, prepare);
        platform.begin();
        platform
    }

    /// An agent with further options.
    pub(crate) fn with(options: &[&str]) -> Self {
        let mut platform = Self::prepared(Surroundings::Plain, |_| {});
        platform.options = options.iter().map(|option| (*option).to_owned()).collect();
        platform.begin();
        platform
    }

    fn prepared(surroundings: Surroundings, prepare: impl FnOnce(&Path)) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let data =
            PathBuf::from(format!("/var/lib/berth-test/agent-{}-{number}", std::process::id()));
        fs::create_dir_all(&data).unwrap();
        prepare(&data);
        let id = random_hex(8);
        let bin = data.join("bin/test");
        fs::create_dir_all(&bin).unwrap();
        fs::write(data.join("id"), &id).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_berth-agent"), bin.join("berth-agent")).unwrap();
        fs::copy(init(), bin.join("berth-init")).unwrap();
        let layer = Digest::from_sha256([7; 32]);
        plant(&data.join("trees").join(layer.hex()));
        let agent = Agent::at(format!("/run/berth/{id}/agent.sock"));
        Self { data, id, agent, process: None, layer, surroundings, options: Vec::new() }
    }

    /// Starts the agent and waits until it listens.
    pub(crate) fn begin(&mut self) {
        let script = match self.surroundings {
            Surroundings::Plain => r#"exec "$0" "$@""#,
            Surroundings::NoLoopDevices => {
                r#"exec unshare --mount sh -c 'mount --bind /dev/null /dev/loop-control &&
                   exec "$0" "$@"' "$0" "$@""#
            }
            Surroundings::Delegated => {
                r#"mkdir -p /sys/fs/cgroup/berth-test.service/control &&
                   echo $$ > /sys/fs/cgroup/berth-test.service/control/cgroup.procs &&
                   exec "$0" "$@""#
            }
        };
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(self.data.join("bin/test/berth-agent"))
            .args(["serve", "--data"])
            .arg(&self.data)
            .args(&self.options)
            .env("BERTH_AGENT_ADDRESS_QUARANTINE_MS", "1000")
            .env("BERTH_AGENT_ANSWER_WAIT_MS", "5000")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "see {}", self.data.join("agent.log").display());
        // In a mount namespace of its own the run folder can be seen through the process alone.
        let root = format!("/proc/{}/root", child.id());
        let root = if self.surroundings == Surroundings::NoLoopDevices { &root } else { "" };
        self.agent = Agent::at(format!("{root}/run/berth/{}/agent.sock", self.id));
        self.process = Some(child);
    }

    /// Where a layer of the test's own lies, empty; the container gets it by its digest.
    pub(crate) fn add_layer(&self, number: u8) -> (Digest, PathBuf) {
        let digest = Digest::from_sha256([number; 32]);
        let tree = self.data.join("trees").join(digest.hex());
        fs::create_dir_all(&tree).unwrap();
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
        (digest, tree)
    }

    /// `kill -9` of the agent alone.
    pub(crate) fn kill_agent(&mut self) {
        let mut child = self.process.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The folders of this platform's control groups that exist, one per tree.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let trees = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
        let all = trees.chain([root.to_path_buf()]).map(|tree| tree.join("berth").join(&self.id));
        all.filter(|folder| folder.is_dir()).collect()
    }

    /// The control group with the limits on memory whose name begins so.
    pub(crate) fn memory_group(&self, name: &str) -> Option<PathBuf> {
        let root = if is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
        let leaves = fs::read_dir(Path::new(root).join("berth").join(&self.id)).ok()?;
        let mut leaves = leaves.flatten();
        let found = leaves.find(|leaf| leaf.file_name().to_string_lossy().starts_with(name))?;
        Some(found.path())
    }

    pub(crate) fn run(&self) -> PathBuf {
        Path::new("/run/berth").join(&self.id)
    }

    pub(crate) async fn call(
        &self,
        request: &Request,
        descriptors: &[OwnedFd],
    ) -> Result<Reply, AgentError> {
        let called = tokio::time::timeout(*PATIENCE, self.agent.call(request, descriptors)).await;
        called.expect("the agent does not answer").map(|(reply, _)| reply)
    }

    /// Starts a container; its address.
    pub(crate) async fn start(
        &self,
        start: Start,
        payload: &Payload,
    ) -> Result<Started, AgentError> {
        let instance = start.instance;
        let descriptors = [memory(&serde_json::to_vec(payload).unwrap())];
        let request = Request::Start(start);
        let called = tokio::time::timeout(*PATIENCE, self.agent.call(&request, &descriptors)).await;
        match called.expect("the agent does not answer")? {
            (Reply::Started { address }, attached) => Ok(Started { instance, address, attached }),
            (reply, _) => panic!("{reply:?}"),
        }
    }

    /// Starts an instance of `app` that runs a shell script.
    pub(crate) async fn instance(&self, app: AppId, script: &str) -> Started {
        self.start(self.request(app, Role::Instance), &shell(script)).await.unwrap()
    }

    /// Runs a script to its end: how it ended, and what it wrote.
    pub(crate) async fn script(
        &self,
        change: impl FnOnce(&mut Start),
        script: &str,
    ) -> (Exit, String) {
        let mut start = self.request(app(1), Role::Run);
        start.time_ms_max = 20_000;
        change(&mut start);
        let started = self.start(start, &shell(script)).await.unwrap();
        let exit = self.end_of(started.instance).await;
        let text = self.log(started.instance).await;
        self.stop(started.instance, 0).await.unwrap();
        (exit, text)
    }

    pub(crate) fn request(&self, app: AppId, role: Role) -> Start {
        Start {
            instance: instance_id(),
            app,
            block: app_number(app),
            role,
            layers: vec![self.layer],
            limits: Limits { memory_mib: 64, cpu_milli: 1000, pids: 64, disk_mib: 64 },
            tty: None,
            stdin: false,
            time_ms_max: if role == Role::Instance { 0 } else { 60_000 },
            volumes: Vec::new(),
            links: Vec::new(),
        }
    }

    pub(crate) async fn stop(
        &self,
        instance: InstanceId,
        grace_ms: u32,
    ) -> Result<Exit, AgentError> {
        match self.call(&Request::Stop { instance, grace_ms }, &[]).await? {
            Reply::Exited(exit) => Ok(exit),
            reply => panic!("{reply:?}"),
        }
    }

    pub(crate) async fn status(&self, instance: InstanceId) -> Option<InstanceStatus> {
        match self.call(&Request::List, &[]).await.unwrap() {
            Reply::Instances { instances } => {
                instances.into_iter().find(|status| status.instance == instance)
            }
            reply => panic!("{reply:?}"),
        }
    }

    /// Waits, by the agent's own watch, until `ready` says so of a container.
    pub(crate) async fn until(
        &self,
        instance: InstanceId,
        ready: impl Fn(&InstanceStatus) -> bool,
    ) -> InstanceStatus {
        let mut session = self.agent.session(&Request::Watch, &[]).await.unwrap();
        let wait = async {
            loop {
                let Reply::Instances { instances } = session.reply().await.unwrap().0 else {
                    panic!("no list")
                };
                if let Some(status) = instances.into_iter().find(|s| s.instance == instance)
                    && ready(&status)
                {
                    return status;
                }
            }
        };
        match tokio::time::timeout(*PATIENCE, wait).await {
            Ok(status) => status,
            Err(_) => panic!(
                "never so: {:?}\n{}\n{}",
                self.status(instance).await,
                self.log(instance).await,
                fs::read_to_string(self.data.join("agent.log")).unwrap_or_default()
            ),
        }
    }

    pub(crate) async fn end_of(&self, instance: InstanceId) -> Exit {
        let ended =
            |status: &InstanceStatus| status.state == berth_container::ContainerState::Exited;
        self.until(instance, ended).await.last_exit.unwrap()
    }

    /// Everything that a container wrote so far, system lines in brackets.
    pub(crate) async fn log(&self, instance: InstanceId) -> String {
        let request = Request::Logs { instance };
        let (_, files) = self.agent.call(&request, &[]).await.unwrap();
        let mut reader = LogReader::new(files, 0);
        let mut text = String::new();
        while let Reading::Lines(lines) = reader.next().unwrap() {
            for line in lines {
                match line.stream {
                    berth_model::log::LogStream::System => text += &format!("[{}]\n", line.line),
                    _ => text += &format!("{}\n", line.line),
                }
            }
        }
        text
    }

    /// Waits until a container's log has `needle`.
    pub(crate) async fn logged(&self, instance: InstanceId, needle: &str) -> String {
        let deadline = Instant::now() + *PATIENCE;
        loop {
            let text = self.log(instance).await;
            if text.contains(needle) {
                return text;
            }
            assert!(Instant::now() < deadline, "no {needle:?} in the log: {text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a command in a container: how it ended, and its output and errors.
    pub(crate) async fn exec(&self, instance: InstanceId, script: &str) -> (Exit, String) {
        let output = memory(b"");
        let descriptors = [
            memory(&serde_json::to_vec(&shell(script)).unwrap()),
            fs::File::open("/dev/null").unwrap().into(),
            output.try_clone().unwrap(),
            output.try_clone().unwrap(),
        ];
        let request = Request::Exec { instance, tty: None, time_ms_max: 20_000 };
        match self.call(&request, &descriptors).await.unwrap() {
            Reply::Exited(exit) => (exit, text_of(output)),
            reply => panic!("{reply:?}"),
        }
    }

    pub(crate) async fn down(&mut self) {
        let reply = self.call(&Request::Down { grace_ms: 1000 }, &[]).await;
        assert_eq!(reply.unwrap(), Reply::Done {});
        let status = self.process.take().unwrap().wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

pub(crate) struct Started {
    pub(crate) instance: InstanceId,
    pub(crate) address: Option<std::net::Ipv4Addr>,
    pub(crate) attached: Vec<OwnedFd>,
}

impl Drop for Platform {
    fn drop(&mut self) {
        let hidden = self.surroundings == Surroundings::NoLoopDevices;
        if self.run().join("agent.sock").exists() || (hidden && self.process.is_some()) {
            if self.process.as_mut().is_none_or(|p| p.try_wait().is_ok_and(|s| s.is_some())) {
                // What is there is found without them.
                self.options.clear();
                self.begin();
            }
            let agent = self.agent.clone();
            let down = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let request = Request::Down { grace_ms: 0 };
                runtime.unwrap().block_on(agent.call(&request, &[])).map(|_| ())
            });
            if let Ok(Err(error)) = down.join() {
                eprintln!("down: {error}");
            }
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.data.join("agent.log")).unwrap_or_default();
            eprintln!("agent.log:\n{log}");
        }
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// A memory file, read from its start by whoever gets it.
pub(crate) fn memory(bytes: &[u8]) -> OwnedFd {
    let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = fs::File::from(file);
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file.into()
}

pub(crate) fn text_of(file: OwnedFd) -> String {
    let mut file = fs::File::from(file);
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

pub(crate) fn shell(script: &str) -> Payload {
    Payload {
        argv: vec!["sh".into(), "-c".into(), script.into()],
        env: vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("SECRET".into(), "hunter2-in-the-environment".into()),
        ],
        working_dir: "/workspace".into(),
    }
}

pub(crate) fn app(number: u16) -> AppId {
    AppId::new(u64::from(number), [0; 10])
}

fn app_number(app: AppId) -> u16 {
    (0..64).find(|number| self::app(*number) == app).unwrap()
}

pub(crate) fn instance_id() -> InstanceId {
    let mut random = [0; 10];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    InstanceId::new(1_700_000_000_000, random)
}

/// Waits until `ready` says so.
pub(crate) async fn eventually(what: &str, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + *PATIENCE;
    while !ready() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The code of a failure; anything else is a failed test.
pub(crate) fn code<T: std::fmt::Debug>(
    outcome: Result<T, AgentError>,
) -> berth_container::FailureCode {
    match outcome {
        Err(AgentError::Failed { code, .. }) => code,
        outcome => panic!("{outcome:?}"),
    }
}

/// The process that holds a container.
pub(crate) fn run_process(platform: &Platform, instance: InstanceId) -> rustix::process::Pid {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
    let kind = SocketType::SEQPACKET;
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let path = platform.run().join("i").join(instance.to_string()).join("sock");
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::sockopt::socket_peercred(&socket).unwrap().pid
}

pub(crate) fn kill(process: rustix::process::Pid) {
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
}

/// Whether a process runs; a zombie does not.
pub(crate) fn alive(process: rustix::process::Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}
