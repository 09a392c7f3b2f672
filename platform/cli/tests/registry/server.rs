//! `docker-registry` with a folder and a port of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// What a registry is told beside its folder.
#[derive(Default)]
pub(crate) struct Options<'o> {
    /// Lines of a file of logins, as htpasswd writes them.
    pub(crate) logins: Option<&'o str>,
    /// Certificate and key, PEM.
    pub(crate) tls: Option<(&'o str, &'o str)>,
}

pub(crate) struct Registry {
    pub(crate) host: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::with(&Options::default())
    }

    pub(crate) fn with(options: &Options<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let data = folder.path().join("data").display().to_string();
        let mut config = serde_json::json!({
            "version": 0.1,
            "log": { "level": "info" },
            "storage": { "filesystem": { "rootdirectory": data } },
            "http": { "addr": "127.0.0.1:0" },
        });
        if let Some(logins) = options.logins {
            let path = put("htpasswd", logins);
            config["auth"] = serde_json::json!({ "htpasswd": { "realm": "test", "path": path } });
        }
        if let Some((certificate, key)) = options.tls {
            let (certificate, key) = (put("certificate", certificate), put("key", key));
            config["http"]["tls"] = serde_json::json!({ "certificate": certificate, "key": key });
        }
        // JSON is YAML.
        let file = put("config.yml", &config.to_string());
        let mut child = Command::new("/usr/bin/docker-registry")
            .args(["serve", &file])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the Debian package docker-registry");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let host = loop {
            let Some(Ok(line)) = log.next() else { panic!("it does not listen: {said:?}") };
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(['"', ',', ' ']).next().unwrap().to_owned();
            }
            said.push(line);
        };
        // Nobody waits for a log that nobody reads.
        std::thread::spawn(move || log.for_each(drop));
        Self { host, child, _folder: folder }
    }

    /// A name in it.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
