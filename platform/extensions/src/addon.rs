//! Hosts the world `berth:addon`.
//!
//! Takes what an add-on is to be called and what was chosen; gives what it consists of, as data.
//! Each call has an instance of its own.

use berth_model::addon::{Spec, SpecProcess, SpecSecret, SpecVolume};

use crate::aot::{Code, LoadError};
use crate::powers::{Allowed, Called, Runner, Session, State};

pub use wit::exports::berth::addon::provider::Request;

use wit::exports::berth::addon::provider::{self, Guest};

mod wit {
    wasmtime::component::bindgen!({
        inline: "
            package berth:host@0.1.0;
            world addon { export berth:addon/provider@0.1.0; }
        ",
        path: ["../wit/types", "../wit/log", "../wit/config", "../wit/addon"],
        world: "berth:host/addon",
        exports: { default: async },
        require_store_data_send: true,
        with: { "berth:types/types": crate::powers::wit::berth::types::types },
    });
}

/// A kind of add-on that can be called.
pub struct Addon {
    runner: Runner,
    world: wit::AddonPre<State>,
}

impl Addon {
    pub(crate) fn load(runner: &Runner, code: &Code, allowed: &Allowed) -> Result<Self, LoadError> {
        let instance = runner.load(code, allowed)?;
        let world =
            wit::AddonPre::new(instance).map_err(|error| LoadError::Link(format!("{error:#}")))?;
        Ok(Self { runner: runner.clone(), world })
    }

    /// Makes an instance and drops it: whether the component starts at all.
    pub async fn start(&self, session: Session) -> Called<()> {
        self.runner
            .call(session, async |store| {
                self.world.instantiate_async(store).await?;
                Ok(Ok(()))
            })
            .await
    }

    /// What it consists of; not checked.
    pub async fn provision(&self, request: &Request, session: Session) -> Called<Spec> {
        self.runner
            .call(session, async |store| {
                let world = self.world.instantiate_async(&mut *store).await?;
                let guest: &Guest = world.berth_addon_provider();
                let said = guest.call_provision(store, request).await?;
                Ok(said.map(Spec::from))
            })
            .await
    }

    /// The argument vector of what writes a backup to its standard output.
    pub async fn backup(&self, request: &Request, session: Session) -> Called<Vec<String>> {
        self.runner
            .call(session, async |store| {
                let world = self.world.instantiate_async(&mut *store).await?;
                let said = world.berth_addon_provider().call_backup(store, request).await?;
                Ok(said.map(|task| task.command))
            })
            .await
    }

    /// The argument vector of what reads a backup from its standard input.
    pub async fn restore(&self, request: &Request, session: Session) -> Called<Vec<String>> {
        self.runner
            .call(session, async |store| {
                let world = self.world.instantiate_async(&mut *store).await?;
                let said = world.berth_addon_provider().call_restore(store, request).await?;
                Ok(said.map(|task| task.command))
            })
            .await
    }
}

impl From<provider::Spec> for Spec {
    fn from(said: provider::Spec) -> Self {
        let secret = |one: provider::Secret| SpecSecret { name: one.name, length: one.length };
        Self {
            processes: said.processes.into_iter().map(process).collect(),
            environment: said.environment,
            secrets: said.secrets.into_iter().map(secret).collect(),
            exports: said.exports,
        }
    }
}

fn process(said: provider::Process) -> SpecProcess {
    let volume = |one: provider::Volume| SpecVolume {
        name: one.name,
        path: one.path,
        size_mib: one.size_mib,
    };
    SpecProcess {
        name: said.name,
        packages: said.packages,
        command: said.command,
        volumes: said.volumes.into_iter().map(volume).collect(),
        port: said.port,
        memory_mib: said.memory_mib,
    }
}
