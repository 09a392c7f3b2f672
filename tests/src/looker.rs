//! An app that says what it sees of the network, and the package that its build must fetch from the
//! outside of a [`Scene`].

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::scene::{PUBLIC, Scene};
use crate::{Platform, Repository, wait_for};

/// Where the outside serves packages.
const PACKAGES_PORT: u16 = 8889;

const SERVER: &str = r#"
import http.server, os, socket, urllib.parse
import fetched

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query))
        try:
            if url.path == "/name":
                found = socket.getaddrinfo(asked["host"], None, type=socket.SOCK_STREAM)
                text = " ".join(sorted({row[4][0] for row in found}))
            elif url.path == "/hear":
                with socket.create_connection((asked["host"], int(asked["port"])), 2) as stream:
                    stream.settimeout(2)
                    text = "heard " + stream.recv(100).decode()
            elif url.path == "/own":
                text = socket.gethostbyname(socket.gethostname())
            elif url.path == "/resolv.conf":
                text = open("/etc/resolv.conf").read()
            else:
                text = fetched.WORD
        except OSError as error:
            text = f"failed {error}"
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Makes a wheel with one module.
const WHEEL: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("fetched.py", "WORD = 'from the outside'\n")
    info = "fetched-1.0.dist-info/"
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: fetched\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "".join(f"{name},,\n" for name in ("fetched.py", info + "METADATA", info + "WHEEL", info + "RECORD")))
"#;

/// The app, deployed.
pub struct Looker {
    /// Its repository.
    pub repository: Repository,
    packages: Child,
    _folder: tempfile::TempDir,
}

impl Looker {
    /// Serves the package outside and deploys the app, whose build fetches it from there.
    ///
    /// # Panics
    /// When the package cannot be fetched, or the push fails.
    #[track_caller]
    pub fn deploy(scene: &Scene, platform: &Platform) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let wheel = folder.path().join("fetched-1.0-py3-none-any.whl");
        let made = Command::new("python3").args(["-c", WHEEL]).arg(&wheel).status();
        assert!(made.expect("python3 starts").success());
        let again = folder.path().join("again");
        std::fs::create_dir(&again).expect("a folder");
        std::fs::copy(&wheel, again.join("fetched-1.0-py3-none-any.whl")).expect("a copy");
        let packages = scene.outside(|| {
            Command::new("python3")
                .args(["-m", "http.server", &PACKAGES_PORT.to_string()])
                .current_dir(folder.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("python3 starts")
        });
        let repository = Repository::new();
        repository.write("server.py", SERVER).write("Procfile", "web: python3 server.py\n");
        repository.write("requirements.txt", Self::requirement(PUBLIC, PACKAGES_PORT));
        repository.commit("An app that looks around");
        let looker = Self { repository, packages, _folder: folder };
        let address = SocketAddr::new(PUBLIC.parse().expect("an address"), PACKAGES_PORT);
        wait_for("the packages", 20, || std::net::TcpStream::connect(address).ok());
        looker.repository.deploy(platform, "looker");
        assert_eq!(looker.asks(platform, "/"), "from the outside");
        looker
    }

    /// A line of requirements.txt: the package from this host.
    pub fn requirement(host: &str, port: u16) -> String {
        format!("fetched @ http://{host}:{port}/fetched-1.0-py3-none-any.whl\n")
    }

    /// Deploys once more, with the package from another place outside, so that the build must
    /// fetch it.
    ///
    /// # Panics
    /// When the push fails.
    #[track_caller]
    pub fn deploy_again(&self, platform: &Platform) {
        let host = format!("{PUBLIC}:{PACKAGES_PORT}/again");
        let line = format!("fetched @ http://{host}/fetched-1.0-py3-none-any.whl\n");
        self.repository.write("requirements.txt", line);
        self.repository.commit("The package from another place");
        let pushed = self.repository.push(platform, "looker", &["HEAD:main", "--force"]);
        assert!(pushed.ok, "{}\n{}", pushed.text, platform.log());
        assert!(pushed.text.contains(&format!("{PUBLIC}:{PACKAGES_PORT}")), "{}", pushed.text);
    }

    /// What the app answers.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn asks(&self, platform: &Platform, path: &str) -> String {
        let (status, text) = platform.get("looker", path).expect("an answer");
        assert_eq!(status, 200, "{text}");
        text
    }

    /// What the app hears from a service.
    #[track_caller]
    pub fn hears(&self, platform: &Platform, host: &str, port: u16) -> Option<String> {
        let text = self.asks(platform, &format!("/hear?host={host}&port={port}"));
        text.strip_prefix("heard ").map(str::to_owned)
    }

    /// The addresses that a name has for the app, or why it has none.
    #[track_caller]
    pub fn finds(&self, platform: &Platform, name: &str) -> String {
        self.asks(platform, &format!("/name?host={name}"))
    }

    /// The address of the app's instance.
    #[track_caller]
    pub fn address(&self, platform: &Platform) -> String {
        self.asks(platform, "/own")
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        let _ = self.packages.kill();
        let _ = self.packages.wait();
    }
}

/// Deploys a Python app on a platform outside of any scene where this machine has no stacks yet: a
/// scene has no way to where they come from.
///
/// # Panics
/// When it does not deploy.
pub fn stacks_are_there() {
    let kept = std::fs::read_dir("/var/lib/berth-machine/stacks");
    let stacks = kept.into_iter().flatten().flatten();
    if stacks.filter(|entry| entry.path().extension().is_some_and(|end| end == "tar")).count() < 2 {
        let platform = Platform::start();
        Repository::of_sample("python-flask").deploy(&platform, "first");
    }
}
