//! Extensions that come from a registry of container images, and go to a machine that reaches none.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use acceptance::Platform;

use super::policies::endless;
use super::{CONFIG, data, said};

/// Debian's `docker-registry` with a folder and a port of its own.
struct Registry {
    host: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{ level: info }}\nhttp: {{ addr: '127.0.0.1:0' }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\n",
            folder.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the Debian package docker-registry");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = loop {
            let line = log.next().expect("it listens").unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(['"', ',', ' ']).next().unwrap().to_owned();
            }
        };
        // It must be able to go on writing.
        std::thread::spawn(move || log.for_each(drop));
        Self { host, child, _folder: folder }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_extension_is_installed_from_a_registry_and_what_was_reviewed_is_what_runs() {
    let (platform, registry) = (Platform::start_with(CONFIG), Registry::start());
    let folder = tempfile::tempdir().unwrap();
    let tag = format!("{}/acme/judge:stable", registry.host);
    let push = |version: &str| {
        let path = folder.path().join(format!("{version}.wasm"));
        std::fs::write(&path, endless("acme.judge", version, "metrics = {}")).unwrap();
        let told = data(&platform, &["ext", "push", path.to_str().unwrap(), &tag]);
        told["place"].as_str().unwrap().to_owned()
    };
    let first = push("1.0.0");

    // Nobody is there to be asked: the review names the place by digest, and so does the command.
    let (code, out, err) = said(platform.berth(&["ext", "install", &tag]));
    assert_eq!(code, Some(2), "{err}");
    assert!(out.contains("acme.judge 1.0.0 (policy)"), "{out}");
    assert!(out.contains(&format!("\nfrom {first}\n")), "{out}");
    let told = err.split_once("if you do: ").unwrap().1.trim();
    assert!(told.starts_with(&format!("berth ext install {first} --accept ")), "{told}");
    // Another component under the tag meanwhile is not what was looked at.
    let second = push("1.1.0");
    let words: Vec<&str> = told.split_whitespace().skip(1).collect();
    assert_eq!(platform.must(&words), "acme.judge 1.0.0 is installed\n");

    let installed = data(&platform, &["ext", "install", &tag, "--yes"]);
    assert_eq!(installed["place"], second.as_str());
    assert_eq!(installed["extension"]["version"], "1.1.0");
    platform.must(&["ext", "install", &first, "--yes"]);
    assert_eq!(data(&platform, &["ext", "show", "acme.judge"])["version"], "1.0.0");

    let unknown = format!("{}/acme/judge:none", registry.host);
    let (code, out, err) = said(platform.berth(&["ext", "install", &unknown, "--yes"]));
    assert!(code == Some(1) && out.is_empty() && err.contains("it is not there"), "{out}{err}");
}

#[test]
fn an_installed_extension_is_saved_as_a_file_that_another_platform_installs() {
    let platform = Platform::start_with(CONFIG);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let component = endless("acme.judge", "1.0.0", "metrics = {}");
    std::fs::write(path("first.wasm"), &component).unwrap();
    platform.must(&["ext", "install", &path("first.wasm"), "--yes"]);

    let saved = data(&platform, &["ext", "save", "acme.judge", "-o", &path("saved.wasm")]);
    assert_eq!((&saved["id"], &saved["version"]), (&"acme.judge".into(), &"1.0.0".into()));
    let shown = data(&platform, &["ext", "show", "acme.judge"]);
    assert_eq!(saved["component"], shown["component"]);
    assert!(std::fs::read(path("saved.wasm")).unwrap() == component, "the same bytes");

    let (code, _, err) = said(platform.berth(&["ext", "save", "acme.jugde"]));
    assert!(code == Some(1) && err.contains("did you mean acme.judge?"), "{err}");
    let into = path("none/it.wasm");
    let (code, _, err) = said(platform.berth(&["ext", "save", "acme.judge", "-o", &into]));
    assert!(code == Some(1) && err.contains(&format!("cannot write {into}")), "{err}");

    platform.must(&["ext", "remove", "acme.judge", "--yes"]);
    let installed = platform.must(&["ext", "install", &path("saved.wasm"), "--yes"]);
    assert_eq!(installed, "acme.judge 1.0.0 is installed\n");
}
