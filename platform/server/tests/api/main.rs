//! The HTTP API on a real socket, with a real store; other rooms are [`rooms::Rooms`].

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod audit;
mod authorization;
mod changes;
mod document;
mod guard;
mod listener;
mod measures;
mod overrides;
mod packs;
mod rooms;
mod scopes;
mod secrets;
mod sessions;
mod shelf;
mod sign_in;
mod stores;
mod streams;
mod volumes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use berth_model::image::Image;
use berth_model::plan::{Change, Secret};
use berth_model::principal::Scope;
use berth_model::{
    App, AppId, Build, Deployment, DeploymentState, Digest, InstanceId, InstanceRecord,
    InstanceRole, InstanceState, Manifest, Process, Role, Runtime, TeamId,
};
use berth_store::{
    BuildEnd, By, NewKey, NewToken, NewUser, Owner, SessionLimits, Store, UserState,
};
use berthd::http::{Platform, router};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

const NOW_MS: i64 = 1_700_000_000_000;

/// An API with an app `hello` of the team `default`, and tokens for each kind of caller.
struct Api {
    address: SocketAddr,
    client: reqwest::Client,
    store: Store,
    rooms: Arc<rooms::Rooms>,
    app: App,
    build: Build,
    deployment: Deployment,
    instance: InstanceRecord,
    run: InstanceRecord,
    tokens: BTreeMap<&'static str, String>,
    /// The token and the key that operations on tokens and keys are tried on.
    token: String,
    /// The drain that operations on drains are tried on.
    drain: String,
    /// The alert that operations on alerts are tried on.
    alert: String,
    key: String,
    /// The cookie of the user `anna`, an operator of the team, and the session.
    cookie: String,
    session: String,
    /// The backup that operations on backups are tried on, where there is an add-on.
    backup: String,
    folder: tempfile::TempDir,
}

fn by() -> By {
    By::system(NOW_MS)
}

impl Api {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.sqlite");
        let store = Store::open(&path, &[7; 32], "localhost").await.unwrap();
        let team = store.default_team();
        let other = store.create_team(&"other".parse().unwrap(), &by()).await.unwrap().id;
        let mut tokens = BTreeMap::new();
        for (name, team, role) in [
            ("other", other, Role::Operator),
            ("viewer", team, Role::Viewer),
            ("developer", team, Role::Developer),
            ("owner", team, Role::Operator),
            ("admin", team, Role::Admin),
        ] {
            tokens.insert(name, new_token(&store, name, team, role).await.1);
        }
        let (token, _) = new_token(&store, "ci", team, Role::Developer).await;
        let key = add_key(&store, team).await;
        let (app, build, deployment) = deployed_twice(&store, team).await;
        let instance = put_instance(&store, &app, InstanceRole::Instance, 1).await;
        let run = put_instance(&store, &app, InstanceRole::Run, 2).await;
        let app = store.app(app.id).await.unwrap().unwrap();
        let drain = berth_store::NewDrain {
            app: Some(app.id),
            url: "syslog+tcp://logs.example.com".parse().unwrap(),
            ca: None,
            reach: berth_model::drain::Reach::Public,
            processors: Vec::new(),
        };
        let drain = store.create_drain(&drain, &by()).await.unwrap().unwrap().id.to_string();

        for (name, new) in limited(&store, team).await {
            tokens.insert(name, store.create_token(&new, &by()).await.unwrap().1);
        }
        let alert = berth_store::NewAlert {
            app: Some(app.id),
            measure: "cpu".into(),
            comparison: berth_model::alert::Comparison::Above,
            value: 0.9,
            for_ms: 0,
        };
        let alert = store.create_alert(&alert, &by()).await.unwrap().unwrap().id.to_string();
        let (cookie, session) = signed_in(&store, "anna", Some((team, Role::Operator))).await;

        let rooms = Arc::new(rooms::Rooms::new(store.clone()));
        let http = SocketAddr::from(([0, 0, 0, 0], 8080));
        let ssh = SocketAddr::from(([127, 0, 0, 1], 2222));
        let hosts = vec!["api.example.org".to_owned()];
        let platform = Platform::new(store.clone(), rooms.clone(), || NOW_MS, hosts, http, ssh);
        let service = router(Arc::new(platform), axum::Router::new())
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self {
            address,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            store,
            rooms,
            app,
            build,
            deployment,
            instance,
            run,
            tokens,
            token,
            drain,
            alert,
            key,
            cookie,
            session,
            backup: String::new(),
            folder,
        }
    }

    /// A request as one of the callers; as `nobody` it has no token.
    fn request(&self, caller: &str, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        match (self.tokens.get(caller), caller) {
            (Some(token), _) => request.bearer_auth(token),
            (None, "session") => request
                .header("cookie", format!("berth-session={}", self.cookie))
                .header("origin", format!("http://{}", self.address)),
            (None, _) => request,
        }
    }

    /// Sends it, and gives the status and the JSON that comes back.
    async fn call(
        &self,
        caller: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = self.request(caller, method, path);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        let json = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        (status, json)
    }

    /// The same, which must succeed.
    async fn must(&self, caller: &str, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, json) = self.call(caller, method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {json}");
        json
    }
}

/// A user in a session that a link began: its cookie and its id.
async fn signed_in(store: &Store, name: &str, role: Option<(TeamId, Role)>) -> (String, String) {
    let new = NewUser { name: name.parse().unwrap(), role };
    let user = store.create_user(&new, &by()).await.unwrap();
    let link = store.make_link(user.id, NOW_MS + 1000, &by()).await.unwrap();
    let limits = SessionLimits { idle_ms: 1_000_000, absolute_ms: 1_000_000 };
    let followed = store.follow_link(&link, "a browser".into(), limits, None, NOW_MS).await;
    let linked = followed.unwrap().unwrap();
    (linked.cookie, linked.session.id.to_string())
}

/// Tokens that may do less than their role, or nothing.
async fn limited(store: &Store, team: TeamId) -> [(&'static str, NewToken); 3] {
    let new = NewUser { name: "gone".parse().unwrap(), role: Some((team, Role::Operator)) };
    let gone = store.create_user(&new, &by()).await.unwrap();
    store.set_user_state(gone.id, UserState::Disabled, &by()).await.unwrap();
    let of = |name: &str| NewToken::of_team(name, team, Role::Operator);
    let elsewhere = Some([AppId::new(9, [9; 10])].into());
    [
        ("gone", NewToken { owner: Owner::User(gone.id), ..of("gone") }),
        ("elsewhere", NewToken { apps: elsewhere, ..of("elsewhere") }),
        ("reader", NewToken { scope: Scope::Read, ..of("reader") }),
    ]
}

async fn new_token(store: &Store, name: &str, team: TeamId, role: Role) -> (String, String) {
    let new = NewToken::of_team(name, team, role);
    let (token, secret) = store.create_token(&new, &by()).await.unwrap();
    (token.id.to_string(), secret)
}

async fn add_key(store: &Store, team: TeamId) -> String {
    let new = NewKey {
        name: "laptop".into(),
        owner: Owner::Team(team),
        role: Role::Developer,
        fingerprint: "SHA256:abc".into(),
        public_key: "ssh-ed25519 AAAA".into(),
    };
    store.add_key(&new, &by()).await.unwrap().id.to_string()
}

fn image(n: u8) -> Image {
    let process = |command: &str| Process {
        command: vec![command.into()],
        working_dir: "/workspace".into(),
        check: None,
    };
    Image {
        digest: Digest::from_sha256([n; 32]),
        layers: Vec::new(),
        env: BTreeMap::new(),
        manifest: Manifest {
            processes: ["web", "worker"].map(|name| (name.parse().unwrap(), process(name))).into(),
            release: None,
            runtime: Runtime::Container,
            formation: BTreeMap::new(),
            wasm: berth_model::manifest::WasmSettings::default(),
        },
    }
}

/// Two releases, of which the second serves.
async fn deployed_twice(store: &Store, team: TeamId) -> (App, Build, Deployment) {
    let create = Change::Create { name: "hello".parse().unwrap(), team };
    let app = store.change(None, &create, None, &by()).await.unwrap().app;
    let domain = Change::AddDomain("www.example.org".parse().unwrap());
    store.change(Some(app.id), &domain, None, &by()).await.unwrap();
    let set = [("PASSWORD".parse().unwrap(), Secret::new("swordfish"))].into();
    let configure = Change::Configure { set, unset: Default::default(), release: false };
    store.change(Some(app.id), &configure, None, &by()).await.unwrap();
    let mut last = None;
    for n in 1..=2 {
        let image = image(n);
        let commit = format!("{n:02x}").repeat(20);
        let build = store.create_build(app.id, &commit, image.digest, None, &by()).await.unwrap();
        let lines = ["-----> Building", "       done"].map(str::to_owned);
        store.append_build_log(build.id, &lines, NOW_MS).await.unwrap();
        let end = BuildEnd::Succeeded { image: &image, layers: None, memo: None };
        store.finish_build(build.id, end, &by()).await.unwrap();
        let manifest = Box::new(image.manifest);
        let change = Change::Deploy { image: image.digest, manifest, commit };
        let done = store.release_build(&build, &change, &by()).await.unwrap();
        store.close_build(build.id).await.unwrap();
        let build = store.build(build.id).await.unwrap().unwrap();
        let id = done.deployment.unwrap().id;
        store.switch_deployment(id, &by()).await.unwrap();
        store.finish_deployment(id, DeploymentState::Done, None, &by()).await.unwrap();
        last = Some((build, store.deployment(id).await.unwrap().unwrap()));
    }
    let (build, deployment) = last.unwrap();
    (store.app(app.id).await.unwrap().unwrap(), build, deployment)
}

async fn put_instance(store: &Store, app: &App, role: InstanceRole, n: u8) -> InstanceRecord {
    let record = InstanceRecord {
        id: InstanceId::new(u64::from(n), [n; 10]),
        app: app.id,
        release: app.current_release.unwrap(),
        deployment: None,
        process: if role == InstanceRole::Run { "run" } else { "web" }.parse().unwrap(),
        slot: 1,
        role,
        restarts: 0,
        state: InstanceState::Running,
        address: None,
        answering: None,
        exit_code: None,
        error: None,
        created_at_ms: NOW_MS,
        ready_at_ms: None,
        draining_at_ms: None,
        stopped_at_ms: None,
    };
    store.put_instance(&record, &by()).await.unwrap();
    record
}
