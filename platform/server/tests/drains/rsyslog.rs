//! rsyslog, started by a test with a configuration of its own in a folder of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::certificates::Certificates;
use crate::world::{free_port, lines_of, until};

pub(crate) enum Input<'a> {
    Udp,
    Tcp,
    Tls(&'a Certificates),
}

pub(crate) struct Rsyslog {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    udp: bool,
    child: Option<Child>,
}

impl Rsyslog {
    pub(crate) async fn start(input: Input<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (at, port) = (folder.path(), free_port());
        let udp = matches!(input, Input::Udp);
        let (globals, listener) = match input {
            Input::Udp => (
                String::new(),
                format!(
                    "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")"
                ),
            ),
            Input::Tcp => (
                String::new(),
                format!(
                    "module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")"
                ),
            ),
            Input::Tls(certificates) => {
                let file = |name: &str, text: &str| {
                    let path = at.join(name);
                    std::fs::write(&path, text).unwrap();
                    path.display().to_string()
                };
                let globals = format!(
                    "DefaultNetstreamDriverCAFile=\"{}\" DefaultNetstreamDriverCertFile=\"{}\" DefaultNetstreamDriverKeyFile=\"{}\"",
                    file("ca.pem", &certificates.ca),
                    file("cert.pem", &certificates.certificate),
                    file("key.pem", &certificates.key)
                );
                let listener = format!(
                    "module(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")"
                );
                (globals, listener)
            }
        };
        let config = format!(
            "global(workDirectory=\"{at}\" maxMessageSize=\"64k\" {globals})\n{listener}\n\
             template(name=\"parts\" type=\"string\" string=\"%hostname%|%app-name%|%procid%|%msgid%|%structured-data%|%syslogfacility-text%.%syslogseverity-text%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{at}/received\" template=\"parts\")\n",
            at = at.display()
        );
        std::fs::write(at.join("config"), config).unwrap();
        let mut own = Self { folder, port, udp, child: None };
        own.run().await;
        own
    }

    /// Starts it, again or for the first time, and waits until it listens.
    pub(crate) async fn run(&mut self) {
        let at = self.folder.path();
        let errors =
            std::fs::File::options().create(true).append(true).open(at.join("errors")).unwrap();
        let child = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-f"])
            .arg(at.join("config"))
            .arg("-i")
            .arg(at.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        self.child = Some(child);
        // Inode tables of the kernel: a port in hexadecimal, and nobody has to connect.
        let table = if self.udp { "/proc/net/udp" } else { "/proc/net/tcp" };
        let wanted = format!("0100007F:{:04X} ", self.port);
        until("rsyslog listens", || async {
            let listens = std::fs::read_to_string(table).unwrap().contains(&wanted);
            listens.then_some(())
        })
        .await;
    }

    /// Ends it as a service manager does: with SIGTERM.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            kill(pid, Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
    }

    fn received_file(&self) -> PathBuf {
        self.folder.path().join("received")
    }

    /// Everything it wrote, in its order.
    pub(crate) fn received(&self) -> Vec<String> {
        lines_of(&self.received_file())
    }

    /// Waits until it has a line with this text.
    pub(crate) async fn has(&self, text: &str) -> String {
        let found = until("rsyslog receives a line", || async {
            self.received().into_iter().find(|line| line.contains(text))
        });
        found.await
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let errors = std::fs::read_to_string(self.folder.path().join("errors"));
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("--- rsyslog\n{}\n", errors.unwrap_or_default()).as_bytes(),
            );
        }
    }
}
