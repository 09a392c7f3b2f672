//! The store on real SQLite files.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod access;
mod app_values;
mod buildpacks;
mod builds;
mod changes;
mod config;
mod deployments;
mod drains;
mod events;
mod extensions;
mod instances;
mod opening;
mod routes;
mod sweep;
mod users;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use berth_model::image::Image;
use berth_model::plan::{Change, Config, Secret};
use berth_model::{
    App, Digest, InstanceId, InstanceRecord, InstanceRole, InstanceState, LayerRef, Manifest,
    Process, Release, Runtime,
};
use berth_store::{BuildEnd, By, Committed, Store};

const KEY: [u8; 32] = [7; 32];

/// A store in a folder that goes away with it.
struct Fixture {
    store: Store,
    folder: tempfile::TempDir,
}

impl std::ops::Deref for Fixture {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open(&folder.path().join("berth.sqlite"), &KEY, "localhost").await.unwrap();
        Self { store, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("berth.sqlite")
    }

    /// The same file, opened again, as after a crash: nothing was closed.
    async fn again(&self) -> Store {
        Store::open(&self.path(), &KEY, "localhost").await.unwrap()
    }

    async fn new_app(&self, name: &str) -> App {
        let change = Change::Create { name: name.parse().unwrap(), team: self.default_team() };
        self.change(None, &change, None, &by()).await.unwrap().app
    }

    /// A build that succeeded, and its release.
    async fn deployed(&self, app: &App, n: u8) -> Committed {
        let image = image(n);
        let build = self.create_build(app.id, &commit(n), image.digest, None, &by()).await.unwrap();
        let end = BuildEnd::Succeeded { image: &image, layers: None, memo: None };
        self.finish_build(build.id, end, &by()).await.unwrap();
        let change = Change::Deploy {
            image: image.digest,
            manifest: Box::new(image.manifest),
            commit: commit(n),
        };
        self.change(Some(app.id), &change, None, &by()).await.unwrap()
    }

    /// The same, and it serves.
    async fn serving(&self, app: &App, n: u8) -> Release {
        let done = self.deployed(app, n).await;
        let deployment = done.deployment.unwrap().id;
        self.switch_deployment(deployment, &by()).await.unwrap();
        let state = berth_model::DeploymentState::Done;
        self.finish_deployment(deployment, state, None, &by()).await.unwrap();
        done.release.unwrap()
    }

    async fn set(&self, app: &App, values: &[(&str, &str)]) -> Committed {
        let change = configure(values);
        self.change(Some(app.id), &change, None, &by()).await.unwrap()
    }
}

fn by() -> By {
    By::system(1_700_000_000_000)
}

fn configure(values: &[(&str, &str)]) -> Change {
    let set: Config =
        values.iter().map(|(name, value)| (name.parse().unwrap(), Secret::new(*value))).collect();
    Change::Configure { set, unset: Default::default(), release: true }
}

fn commit(n: u8) -> String {
    format!("{n:02x}").repeat(20)
}

fn image(n: u8) -> Image {
    let web =
        Process { command: vec!["serve".into()], working_dir: "/workspace".into(), check: None };
    Image {
        digest: Digest::from_sha256([n; 32]),
        layers: vec![LayerRef {
            diff_id: Digest::from_sha256([n, 1].repeat(16).try_into().unwrap()),
            bytes: 10,
            name: "app".into(),
        }],
        env: BTreeMap::from([("LANG".to_owned(), "C".to_owned())]),
        manifest: Manifest {
            processes: BTreeMap::from([("web".parse().unwrap(), web)]),
            release: None,
            runtime: Runtime::Container,
            formation: BTreeMap::new(),
            wasm: berth_model::manifest::WasmSettings::default(),
        },
    }
}

fn instance(release: &Release, n: u8) -> InstanceRecord {
    InstanceRecord {
        id: InstanceId::new(u64::from(n), [n; 10]),
        app: release.app,
        release: release.id,
        deployment: None,
        process: "web".parse().unwrap(),
        slot: 1,
        role: InstanceRole::Instance,
        restarts: 0,
        state: InstanceState::Planned,
        address: None,
        answering: None,
        exit_code: None,
        error: None,
        created_at_ms: 1,
        ready_at_ms: None,
        draining_at_ms: None,
        stopped_at_ms: None,
    }
}
