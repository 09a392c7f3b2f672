//! Looks at everything, now and then: what no signal told of is found here.

use std::time::Duration;

use berth_container::Role;

use super::Reconciler;
use crate::drivers::{Driver, WasmHost};
use crate::error::DeployError;
use crate::records::Records;

impl<R: Records, W: WasmHost> Reconciler<R, W> {
    pub(super) async fn sweep_again_and_again(&self) {
        let period = Duration::from_millis(self.shared.settings.period_ms.into());
        let mut pause = Duration::from_millis(200);
        loop {
            let swept = self.sweep().await;
            if let Err(error) = &swept {
                tracing::warn!("not everything could be looked at: {error}");
            }
            let wait = if swept.is_ok() { period } else { pause.min(period) };
            pause = if swept.is_ok() { Duration::from_millis(200) } else { pause * 2 };
            tokio::time::sleep(wait).await;
        }
    }

    /// Wakes every app, and ends what runs without a row.
    async fn sweep(&self) -> Result<(), DeployError> {
        for app in self.shared.records.apps().await? {
            self.wake(app);
        }
        let containers = self.end_containers_without_row().await;
        let components = self.unload_components_without_row().await;
        containers.and(components)
    }

    /// A row is written before its container is started, so a container that was listed before
    /// its row was looked for in vain belongs to nobody. Build containers are not ours.
    async fn end_containers_without_row(&self) -> Result<(), DeployError> {
        let shared = &self.shared;
        let statuses = shared.embedded.statuses().await?;
        for status in statuses.iter().filter(|status| status.role != Role::Build) {
            let row = shared.records.instance(status.instance).await?;
            if row.is_some_and(|row| !row.state.is_terminal()) {
                continue;
            }
            tracing::warn!(instance = %status.instance, "ending a container that nobody knows");
            let grace_ms = shared.settings.timeouts.stop_ms_max;
            shared.embedded.stop(status.instance, grace_ms).await?;
            shared.records.publish(status.app).await?;
            shared.embedded.free_address(status.instance).await?;
        }
        Ok(())
    }

    async fn unload_components_without_row(&self) -> Result<(), DeployError> {
        for instance in self.shared.wasm.list().await?.into_keys() {
            let row = self.shared.records.instance(instance).await?;
            if row.is_none_or(|row| row.state.is_terminal()) {
                self.shared.wasm.stop(instance, 0).await?;
            }
        }
        Ok(())
    }
}
