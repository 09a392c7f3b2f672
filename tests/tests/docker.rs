//! A real Docker on the same machine: it sets FORWARD to DROP, opens its published ports by address
//! translation, and must neither close the way out of instances and builds nor open one in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use acceptance::looker::stacks_are_there;
use acceptance::scene::{MACHINE, METADATA, PORT, PUBLIC, hear, must};
use acceptance::{Looker, Platform, Scene, wait_for};

/// The address of Docker's bridge, in a range that nothing else here has.
const BRIDGE: &str = "172.29.77.1";
/// The published port of the container.
const PUBLISHED: u16 = 8099;

/// A Docker daemon with one container that answers on a published port.
struct Docker {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl Docker {
    fn start() -> Self {
        let folder = tempfile::tempdir_in("/var/lib/berth-test").unwrap();
        let at = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(at("log")).unwrap();
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .args(["--bip", &format!("{BRIDGE}/24")])
            .args(["--host", &format!("unix://{}", at("sock").display())])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let docker = Self { folder, daemon };
        wait_for("dockerd", 60, || {
            docker.command(&["info"]).output().ok()?.status.success().then_some(())
        });
        let root = at_root(&docker);
        docker.must(&["import", &root.display().to_string(), "berth-test-busybox"]);
        let publish = format!("{PUBLISHED}:80");
        let server = "while :; do echo container | nc -l -p 80; done";
        docker.must(&[
            "run",
            "--detach",
            "--name",
            "web",
            "--publish",
            &publish,
            "berth-test-busybox",
            "/bin/busybox",
            "sh",
            "-c",
            server,
        ]);
        docker
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        let socket = self.folder.path().join("sock");
        command
            .args(["--host", &format!("unix://{}", socket.display())])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn must(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "docker {arguments:?}: {text}\n{}", log());
        text.trim().to_owned()
    }

    /// The container's address.
    fn address(&self) -> String {
        self.must(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", "web"])
    }

    /// What the container hears from a service.
    fn hears(&self, host: &str, port: u16) -> String {
        let look = format!("nc -w 2 {host} {port} < /dev/null 2>&1; true");
        self.must(&["exec", "web", "/bin/busybox", "sh", "-c", &look])
    }
}

/// A root file system of busybox, as a tar.
fn at_root(docker: &Docker) -> PathBuf {
    let root = docker.folder.path().join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in ["sh", "nc"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let tar = docker.folder.path().join("root.tar");
    must(&format!("tar -C {} -cf {} .", root.display(), tar.display()));
    tar
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "--force", "web"]).output();
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}

/// The way out of instances and builds, and who is kept from whom, beside a Docker that works.
fn instances_and_docker_live_side_by_side(
    scene: &Scene,
    platform: &Platform,
    app: &Looker,
    docker: &Docker,
) {
    // Docker as it is everywhere: a closed FORWARD, a published port, a way out of its own.
    assert!(must("iptables -S FORWARD").starts_with("-P FORWARD DROP"));
    let published = scene.outside(|| hear(MACHINE, PUBLISHED));
    assert_eq!(published.as_deref(), Some("container\n"), "the published port is not there");
    assert_eq!(docker.hears(PUBLIC, PORT), format!("you are {MACHINE}"));

    let out = wait_for("the app's way out", 30, || app.hears(platform, PUBLIC, PORT));
    assert_eq!(out, format!("you are {MACHINE}\n"));
    let own = app.address(platform);
    let gateway = own.splitn(3, '.').take(2).collect::<Vec<_>>().join(".") + ".0.1";
    let container = docker.address();
    for (host, port) in [
        (container.as_str(), 80),
        (MACHINE, PUBLISHED),
        (BRIDGE, PUBLISHED),
        (gateway.as_str(), PUBLISHED),
        (METADATA, PORT),
    ] {
        assert_eq!(app.hears(platform, host, port), None, "the app reaches {host}:{port}");
    }
    // What the app is kept from is there for the machine.
    assert!(hear(&container, 80).is_some() && hear(METADATA, PORT).is_some());
    // The app answers the machine, and no container.
    assert!(std::net::TcpStream::connect((own.as_str(), 5000)).is_ok());
    let look = format!(
        "if nc -w 2 {own} 5000 < /dev/null 2> /dev/null; then echo open; else echo closed; fi"
    );
    let text = docker.must(&["exec", "web", "/bin/busybox", "sh", "-c", &look]);
    assert!(text.ends_with("closed"), "a container reaches the app: {text}");

    // Builds: the ways that are closed, and the way out.
    for (host, port, why) in [
        (MACHINE, PUBLISHED, "the host's own addresses are never reached"),
        (&container, 80, "private addresses are reached only where the operator allows"),
        (&own, 5000, "instance addresses are never reached"),
    ] {
        app.repository.write("requirements.txt", Looker::requirement(host, port));
        app.repository.commit("A package from where none may come from");
        let pushed = app.repository.push(platform, "looker", &["HEAD:main", "--force"]);
        assert!(!pushed.ok && pushed.text.contains(why), "{host}:{port}: {}", pushed.text);
    }
    app.deploy_again(platform);
    assert_eq!(app.asks(platform, "/"), "from the outside");
}

#[test]
fn with_docker_started_before_berth_the_way_out_and_the_isolation_stay() {
    stacks_are_there();
    let scene = Scene::enter();
    let docker = Docker::start();
    let platform = Platform::start();
    let app = Looker::deploy(&scene, &platform);
    instances_and_docker_live_side_by_side(&scene, &platform, &app, &docker);
}

#[test]
fn with_docker_started_after_berth_the_way_out_and_the_isolation_stay() {
    stacks_are_there();
    let scene = Scene::enter();
    let platform = Platform::start();
    let app = Looker::deploy(&scene, &platform);
    let docker = Docker::start();
    instances_and_docker_live_side_by_side(&scene, &platform, &app, &docker);
}
