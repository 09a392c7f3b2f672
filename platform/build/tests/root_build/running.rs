//! The image of a build, running.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use berth_build::Outcome;
use berth_container::{APP_PORT, Payload, Reply, Request, Role, Start};
use berth_model::{AppId, InstanceId, LayerRef, Limits};

use crate::platform::Platform;

/// An instance of the web process.
pub(crate) struct Running<'p> {
    platform: &'p Platform,
    instance: InstanceId,
    address: Ipv4Addr,
}

/// An answer: status, head in lower case, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }
}

/// A descriptor with the bytes to be read.
fn memory(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file.into()
}

impl Platform {
    pub(crate) async fn unpack_layers(&self, layers: &[LayerRef]) {
        for layer in layers {
            let tar = [self.blobs.get(&layer.diff_id).unwrap().into()];
            self.agent.call(&Request::LayerUnpack { diff_id: layer.diff_id }, &tar).await.unwrap();
        }
    }

    /// Starts the web process of what was built, until it accepts.
    pub(crate) async fn run(&self, outcome: &Outcome) -> Running<'_> {
        self.unpack_layers(&outcome.output.layers).await;
        let web = &outcome.output.manifest.processes[&"web".parse().unwrap()];
        let payload = Payload {
            argv: web.command.clone(),
            env: outcome.output.env.clone().into_iter().collect(),
            working_dir: web.working_dir.clone(),
        };
        let instance = self.id(InstanceId::new);
        let start = Start {
            instance,
            app: self.id(AppId::new),
            block: 8,
            role: Role::Instance,
            layers: outcome.output.layers.iter().map(|layer| layer.diff_id).collect(),
            limits: Limits::default(),
            tty: None,
            stdin: false,
            time_ms_max: 0,
            volumes: Vec::new(),
            links: Vec::new(),
        };
        let payload = [memory(&serde_json::to_vec(&payload).unwrap())];
        let (reply, _) = self.agent.call(&Request::Start(start), &payload).await.unwrap();
        let Reply::Started { address: Some(address) } = reply else { panic!("{reply:?}") };
        let running = Running { platform: self, instance, address };
        running.until_it_accepts().await;
        running
    }
}

impl Running<'_> {
    async fn until_it_accepts(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let address = SocketAddr::from((self.address, APP_PORT));
        loop {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return;
            }
            if Instant::now() > deadline {
                let (_, logs) = self
                    .platform
                    .agent
                    .call(&Request::Logs { instance: self.instance }, &[])
                    .await
                    .unwrap();
                let mut text = String::new();
                for log in logs {
                    let mut bytes = Vec::new();
                    std::fs::File::from(log).read_to_end(&mut bytes).unwrap();
                    text.push_str(&String::from_utf8_lossy(&bytes));
                }
                panic!("the app does not accept: {text}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.0\r\nHost: app.localhost\r\n{headers}\r\n"))
    }

    pub(crate) fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect((self.address, APP_PORT)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(crate) async fn stop(self) {
        self.platform
            .agent
            .call(&Request::Stop { instance: self.instance, grace_ms: 5000 }, &[])
            .await
            .unwrap();
    }
}
