//! The server around the room, as far as the room sees it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use berth_model::principal::{Scope, Via};
use berth_model::{AppId, AppName, Caller, PrincipalId, Role, TeamId, TokenId};
use berth_push::{PushHost, PushOutput, Pushed, Refusal, Repository, Service, SshKey};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What `deliver` does.
#[derive(Debug, Clone)]
pub(crate) enum Build {
    /// Says a little and succeeds.
    Deploys,
    /// Says these lines and fails with this reason.
    Fails(&'static str, &'static str),
    /// Waits for [`Host::go_on`], and gives up when it is cancelled.
    Waits,
    /// Waits for [`Host::go_on`] whether it is cancelled or not: it is past its release.
    WaitsReleased,
}

/// What happened to a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Began,
    Cancelled,
    Ended,
}

#[derive(Default)]
struct State {
    apps: HashMap<String, AppId>,
    deploy_branches: HashMap<AppId, String>,
    locks: HashMap<AppId, String>,
    keys: HashMap<String, Caller>,
    pushed: Vec<Pushed>,
    /// Apps of another team.
    foreign: HashSet<String>,
}

#[derive(Clone)]
pub(crate) struct Host {
    state: Arc<Mutex<State>>,
    build: watch::Sender<Build>,
    go: watch::Sender<bool>,
    events: mpsc::UnboundedSender<Event>,
}

pub(crate) const TOKEN: &str = "berth_test_token";

pub(crate) fn caller(name: &str, role: Role) -> Caller {
    let team = TeamId::new(1, [1; 10]);
    Caller {
        principal: PrincipalId::new(1, [2; 10]),
        name: name.into(),
        team,
        roles: [(team, role)].into(),
        scope: Scope::All,
        apps: None,
        via: Via::Token(TokenId::new(1, [3; 10])),
        source_ip: None,
    }
}

impl Host {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let host = Self {
            state: Arc::default(),
            build: watch::Sender::new(Build::Deploys),
            go: watch::Sender::new(false),
            events,
        };
        (host, receiver)
    }

    pub(crate) fn build(&self, build: Build) {
        self.go.send_replace(false);
        self.build.send_replace(build);
    }

    pub(crate) fn go_on(&self) {
        self.go.send_replace(true);
    }

    pub(crate) fn know_key(&self, openssh: &str, caller: Caller) {
        let bare: Vec<_> = openssh.split_whitespace().take(2).collect();
        self.state.lock().unwrap().keys.insert(bare.join(" "), caller);
    }

    pub(crate) fn pushed(&self) -> Vec<Pushed> {
        self.state.lock().unwrap().pushed.clone()
    }

    pub(crate) fn app(&self, name: &str) -> Option<AppId> {
        self.state.lock().unwrap().apps.get(name).copied()
    }

    pub(crate) fn deploy_branch_of(&self, name: &str) -> Option<String> {
        let state = self.state.lock().unwrap();
        state.deploy_branches.get(state.apps.get(name)?).cloned()
    }

    pub(crate) fn set_foreign(&self, name: &str) {
        self.state.lock().unwrap().foreign.insert(name.into());
    }

    pub(crate) fn is_locked(&self, name: &str) -> bool {
        let state = self.state.lock().unwrap();
        state.apps.get(name).is_some_and(|app| state.locks.contains_key(app))
    }
}

pub(crate) struct Lock(Arc<Mutex<State>>, AppId);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.lock().unwrap().locks.remove(&self.1);
    }
}

impl PushHost for Host {
    type Lock = Lock;

    async fn caller_of_token(&self, token: &str, from: Option<IpAddr>) -> Option<Caller> {
        assert!(from.is_some_and(|ip| ip.is_loopback()));
        match token {
            TOKEN => Some(caller("developer", Role::Developer)),
            "viewer" => Some(caller("viewer", Role::Viewer)),
            _ => None,
        }
    }

    async fn caller_of_key(&self, key: &SshKey, from: Option<IpAddr>) -> Option<Caller> {
        assert!(from.is_some_and(|ip| ip.is_loopback()));
        assert!(key.fingerprint.starts_with("SHA256:"), "{key:?}");
        self.state.lock().unwrap().keys.get(&key.openssh).cloned()
    }

    async fn open(
        &self,
        caller: &Caller,
        service: Service,
        name: &str,
    ) -> Result<Repository, Refusal> {
        let refuse = |message: String, hidden| Err(Refusal { message, hidden });
        let name: AppName = match name.parse::<AppName>() {
            Ok(name) => name,
            Err(error) => return refuse(error.to_string(), false),
        };
        let mut state = self.state.lock().unwrap();
        let missing = format!("There is no app '{name}'.");
        if state.foreign.contains(name.as_str()) {
            return refuse(missing, true);
        }
        if service == Service::Receive && caller.highest_role() < Some(Role::Developer) {
            return refuse(format!("{} may not deploy '{name}'.", caller.name), false);
        }
        let app = match state.apps.get(name.as_str()) {
            Some(app) => *app,
            None if service == Service::Receive => {
                let count = u8::try_from(state.apps.len()).unwrap();
                let app = AppId::new(1, [count; 10]);
                state.apps.insert(name.to_string(), app);
                app
            }
            None => return refuse(missing, true),
        };
        Ok(Repository { app, name })
    }

    async fn lock(&self, caller: &Caller, repository: &Repository) -> Result<Lock, String> {
        let mut state = self.state.lock().unwrap();
        if let Some(holder) = state.locks.get(&repository.app) {
            return Err(format!("{} is locked: {holder} is deploying it", repository.name));
        }
        state.locks.insert(repository.app, caller.name.clone());
        Ok(Lock(Arc::clone(&self.state), repository.app))
    }

    async fn deploy_branch(&self, repository: &Repository) -> Result<Option<String>, String> {
        Ok(self.state.lock().unwrap().deploy_branches.get(&repository.app).cloned())
    }

    async fn set_deploy_branch(
        &self,
        _: &Caller,
        repository: &Repository,
        branch: &str,
    ) -> Result<(), String> {
        self.state.lock().unwrap().deploy_branches.insert(repository.app, branch.into());
        Ok(())
    }

    async fn deliver(
        &self,
        _: &Caller,
        repository: &Repository,
        pushed: Pushed,
        output: PushOutput,
        cancel: CancellationToken,
    ) -> Result<(), String> {
        output.heading(&format!("Building {}", repository.name));
        self.state.lock().unwrap().pushed.push(pushed);
        let _ = self.events.send(Event::Began);
        let build = self.build.borrow().clone();
        let mut go = self.go.subscribe();
        let waited = async { go.wait_for(|go| *go).await.map(drop) };
        match build {
            Build::Deploys => {}
            Build::Fails(lines, reason) => {
                output.body(lines);
                return Err(reason.into());
            }
            Build::Waits => tokio::select! {
                _ = waited => {}
                () = cancel.cancelled() => {
                    let _ = self.events.send(Event::Cancelled);
                    return Err("cancelled".into());
                }
            },
            Build::WaitsReleased => {
                cancel.cancelled().await;
                let _ = self.events.send(Event::Cancelled);
                let _ = waited.await;
            }
        }
        output.goal("Application deployed:");
        output.body(&format!("http://{}.localhost:8080", repository.name));
        let _ = self.events.send(Event::Ended);
        Ok(())
    }
}
