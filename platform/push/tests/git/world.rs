//! A room with both transports on free ports, and a client beside it.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use berth_blobs::BlobStore;
use berth_blobs::tar::{Caps, Kind, Reader};
use berth_push::{Limits, Push, Pushed, Repositories, host_key, http_router, serve_ssh};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::Client;
use crate::host::{Event, Host};
use crate::tool::DirectGit;

/// How a client reaches the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Ssh,
    Http,
}

pub(crate) const BOTH: [Over; 2] = [Over::Ssh, Over::Http];

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) host: Host,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) repositories: Repositories,
    pub(crate) blobs: BlobStore,
    pub(crate) ssh: SocketAddr,
    pub(crate) http: SocketAddr,
    _stop: DropGuard,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let folder = TempDir::new().unwrap();
        let (host, events) = Host::new();
        let git = folder.path().join("git");
        let repositories = Repositories::open(&git).unwrap();
        let blobs = BlobStore::open(folder.path().join("blobs")).unwrap();
        let tool = DirectGit::new(folder.path(), &git);
        let push = Push::new(host.clone(), tool, repositories.clone(), blobs.clone(), limits);
        let stop = CancellationToken::new();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ssh = listener.local_addr().unwrap();
        let key = host_key(&folder.path().join("ssh_host_key")).unwrap();
        tokio::spawn(serve_ssh(listener, push.clone(), key, stop.clone()));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let service = http_router(push).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });

        let _stop = stop.drop_guard();
        Self { folder, host, events, repositories, blobs, ssh, http, _stop }
    }

    /// A client with a repository, and a key that the host knows.
    pub(crate) fn client(&self) -> Client {
        Client::new(self)
    }

    /// Where an app's repository is for a client.
    pub(crate) fn url(&self, over: Over, name: &str) -> String {
        match over {
            Over::Ssh => format!("ssh://git@127.0.0.1:{}/{name}", self.ssh.port()),
            Over::Http => {
                let token = crate::host::TOKEN;
                format!("http://x:{token}@127.0.0.1:{}/git/{name}.git", self.http.port())
            }
        }
    }

    /// What a branch of an app names.
    pub(crate) fn branch(&self, name: &str, branch: &str) -> Option<String> {
        let app = self.host.app(name)?;
        self.repositories.commit_of(app, &format!("refs/heads/{branch}")).unwrap()
    }

    /// The next event of a delivery.
    pub(crate) async fn event(&mut self) -> Event {
        let waited = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
        waited.expect("an event within 20 s").expect("a host")
    }

    /// The archive of a push: path -> what is there.
    pub(crate) fn archive(&self, pushed: &Pushed) -> BTreeMap<String, String> {
        let file = self.blobs.get(&pushed.source.archive).unwrap();
        let mut reader = Reader::new(std::io::BufReader::new(file), Caps::SOURCE);
        let mut found = BTreeMap::new();
        while let Some(mut entry) = reader.next().unwrap() {
            let path = String::from_utf8(entry.path.clone()).unwrap();
            let shown = match entry.kind.clone() {
                Kind::Directory => "directory".to_owned(),
                Kind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(&target)),
                Kind::File { .. } => {
                    let mut content = String::new();
                    entry.read_to_string(&mut content).unwrap();
                    let mark = if entry.is_executable() { "*" } else { "" };
                    format!("{mark}{content}")
                }
                other => format!("{other:?}"),
            };
            found.insert(path, shown);
        }
        found
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
