//! Hosts the world `berth:console`.
//!
//! Takes which page is looked at; gives the view, as data. Each call has an instance of its own.

use crate::aot::{Code, LoadError};
use crate::powers::{Allowed, Called, Runner, Session, State};

pub use wit::exports::berth::console::pages::{Page, Request};

mod wit {
    wasmtime::component::bindgen!({
        inline: "
            package berth:host@0.1.0;
            world console { export berth:console/pages@0.1.0; }
        ",
        path: ["../wit/types", "../wit/log", "../wit/config", "../wit/kv", "../wit/secrets",
            "../wit/http-out", "../wit/clock", "../wit/console"],
        world: "berth:host/console",
        exports: { default: async },
        require_store_data_send: true,
        with: { "berth:types/types": crate::powers::wit::berth::types::types },
    });
}

/// An extension of the console that can be called.
pub struct Console {
    runner: Runner,
    world: wit::ConsolePre<State>,
}

impl Console {
    pub(crate) fn load(runner: &Runner, code: &Code, allowed: &Allowed) -> Result<Self, LoadError> {
        let instance = runner.load(code, allowed)?;
        let world = wit::ConsolePre::new(instance)
            .map_err(|error| LoadError::Link(format!("{error:#}")))?;
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

    /// Its pages; not checked.
    pub async fn pages(&self, session: Session) -> Called<Vec<Page>> {
        let limits = session.limits;
        self.runner
            .call(session, async |store| {
                let world = self.world.instantiate_async(&mut *store).await?;
                Ok(Ok(world.berth_console_pages().call_pages(store).await?))
            })
            .await
            .within(&limits, |pages| pages.iter().map(page_bytes).sum())
    }

    /// The view of a page, JSON; not checked.
    pub async fn render(&self, request: &Request, session: Session) -> Called<String> {
        let limits = session.limits;
        self.runner
            .call(session, async |store| {
                let world = self.world.instantiate_async(&mut *store).await?;
                world.berth_console_pages().call_render(store, request).await
            })
            .await
            .within(&limits, String::len)
    }
}

/// Bytes of a page's entry, what holds it included.
fn page_bytes(page: &Page) -> usize {
    let extra: usize = page.extra.iter().map(|(name, value)| name.len() + value.len()).sum();
    128 + page.id.len() + page.title.len() + page.place.len() + extra
}
