//! Changes of apps: loads the state that a plan is made on, and applies a plan in one transaction.

mod apply;
pub(crate) mod load;

use berth_model::plan::{Change, Plan, plan};
use berth_model::{App, AppId, Build, Deployment, Release};
use sqlx::sqlite::SqliteConnection;

use crate::apps::{existing, missing};
use crate::{By, Store, StoreError};

/// What a change did.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The plan that was applied; empty when everything was as asked already.
    pub plan: Plan,
    /// The app after it; as it last was when it was destroyed.
    pub app: App,
    /// The release that was made.
    pub release: Option<Release>,
    /// The deployment that was queued.
    pub deployment: Option<Deployment>,
}

impl Store {
    /// Plans a change and writes nothing.
    ///
    /// # Errors
    /// `Refused`, `Missing`, and what the database says.
    pub async fn plan(&self, app: Option<AppId>, change: &Change) -> Result<Plan, StoreError> {
        let mut tx = self.read().await?;
        self.plan_in(&mut tx, app, change).await
    }

    async fn plan_in(
        &self,
        db: &mut SqliteConnection,
        app: Option<AppId>,
        change: &Change,
    ) -> Result<Plan, StoreError> {
        let state = load::state(self, db, app, change).await?;
        if app.is_some() && state.app.is_none() {
            return Err(app.map_or_else(|| berth_model::plan::Refusal::NoApp.into(), missing));
        }
        Ok(plan(&state, change)?)
    }

    /// Plans a change and makes it, in one transaction. With `expected`, only when the app still
    /// has that generation.
    ///
    /// # Errors
    /// `Refused`, `Missing`, `Changed`, and what the database says.
    pub async fn change(
        &self,
        app: Option<AppId>,
        change: &Change,
        expected: Option<u64>,
        by: &By,
    ) -> Result<Committed, StoreError> {
        let mut write = self.write(by).await?;
        let plan = self.plan_in(write.db(), app, change).await?;
        let expected = expected.unwrap_or(plan.generation);
        apply::apply(self, write, plan, expected, None).await
    }

    /// Plans and makes the change that releases a build's image; the build keeps the deployment.
    ///
    /// # Errors
    /// `Refused`, `Missing`, and what the database says.
    pub async fn release_build(
        &self,
        build: &Build,
        change: &Change,
        by: &By,
    ) -> Result<Committed, StoreError> {
        let mut write = self.write(by).await?;
        let plan = self.plan_in(write.db(), Some(build.app), change).await?;
        let expected = plan.generation;
        apply::apply(self, write, plan, expected, Some(build.id)).await
    }

    /// Makes a plan happen, when the app still has the generation that it was made on.
    ///
    /// # Errors
    /// `Changed` when it has another one, `Missing`, and what the database says.
    pub async fn commit(
        &self,
        plan: Plan,
        expected_generation: u64,
        by: &By,
    ) -> Result<Committed, StoreError> {
        let write = self.write(by).await?;
        apply::apply(self, write, plan, expected_generation, None).await
    }
}

/// The app of a plan, at the generation that is expected.
async fn expect(db: &mut SqliteConnection, id: AppId, expected: u64) -> Result<App, StoreError> {
    let app = existing(db, id).await?.ok_or_else(|| missing(id))?;
    if app.generation == expected {
        Ok(app)
    } else {
        Err(StoreError::Changed { expected, found: app.generation })
    }
}
