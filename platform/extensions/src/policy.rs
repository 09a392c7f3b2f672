//! Hosts the world `berth:policy`.
//!
//! Takes a plan; gives the verdict. Fuel ends a policy long before the time does, so a verdict
//! does not depend on the machine. Each call has an instance of its own.

use crate::aot::{Code, LoadError};
use crate::powers::{Allowed, Called, Runner, Session, State};

pub use wit::exports::berth::policy::judge::{Plan, Verdict};

mod wit {
    wasmtime::component::bindgen!({
        inline: "
            package berth:host@0.1.0;
            world policy { export berth:policy/judge@0.1.0; }
        ",
        path: ["../wit/types", "../wit/log", "../wit/config", "../wit/kv", "../wit/metrics",
            "../wit/policy"],
        world: "berth:host/policy",
        exports: { default: async },
        require_store_data_send: true,
        with: { "berth:types/types": crate::powers::wit::berth::types::types },
    });
}

/// A policy that can be called.
pub struct Policy {
    runner: Runner,
    world: wit::PolicyPre<State>,
}

impl Policy {
    pub(crate) fn load(runner: &Runner, code: &Code, allowed: &Allowed) -> Result<Self, LoadError> {
        let instance = runner.load(code, allowed)?;
        let world =
            wit::PolicyPre::new(instance).map_err(|error| LoadError::Link(format!("{error:#}")))?;
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

    /// Asks for its verdict.
    pub async fn judge(&self, plan: &Plan, session: Session) -> Called<Verdict> {
        let limits = session.limits;
        self.runner
            .call(session, async |store| {
                let world = self.world.instantiate_async(&mut *store).await?;
                world.berth_policy_judge().call_judge(store, plan).await
            })
            .await
            .within(&limits, |verdict| match verdict {
                Verdict::Allow(remarks) => remarks.iter().map(|remark| 64 + remark.len()).sum(),
                Verdict::Deny(reason) => reason.len(),
            })
    }
}
