//! Hosts the world `berth:hook`.
//!
//! Takes an event; gives whether the hook took it. Each call has an instance of its own.

use crate::aot::{Code, LoadError};
use crate::powers::{Allowed, Called, Runner, Session, State};

pub use wit::exports::berth::hook::handler::Event;

mod wit {
    wasmtime::component::bindgen!({
        inline: "
            package berth:host@0.1.0;
            world hook { export berth:hook/handler@0.1.0; }
        ",
        path: ["../wit/types", "../wit/log", "../wit/config", "../wit/kv", "../wit/secrets",
            "../wit/http-out", "../wit/events", "../wit/clock", "../wit/metrics", "../wit/hook"],
        world: "berth:host/hook",
        exports: { default: async },
        require_store_data_send: true,
        with: { "berth:types/types": crate::powers::wit::berth::types::types },
    });
}

/// A hook that can be called.
pub struct Hook {
    runner: Runner,
    world: wit::HookPre<State>,
}

impl Hook {
    pub(crate) fn load(runner: &Runner, code: &Code, allowed: &Allowed) -> Result<Self, LoadError> {
        let instance = runner.load(code, allowed)?;
        let world =
            wit::HookPre::new(instance).map_err(|error| LoadError::Link(format!("{error:#}")))?;
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

    /// Tells it of an event.
    pub async fn on_event(&self, event: &Event, session: Session) -> Called<()> {
        self.runner
            .call(session, async |store| {
                let world = self.world.instantiate_async(&mut *store).await?;
                world.berth_hook_handler().call_on_event(store, event).await
            })
            .await
    }
}
