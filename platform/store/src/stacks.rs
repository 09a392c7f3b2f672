//! Stacks that were made.

use std::collections::BTreeMap;

use berth_model::LayerRef;
use serde_json::{Value, json};

use crate::events::NewEvent;
use crate::row::{Columns, to_json};
use crate::{By, Store, StoreError};

/// A stack: what apps run on and what builds run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// The base of apps.
    pub run: LayerRef,
    /// The base of builds.
    pub build: LayerRef,
    /// Versions by package of the run base.
    pub packages: BTreeMap<String, String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

fn stack(row: &Columns<'_>) -> Result<Stack, StoreError> {
    Ok(Stack {
        name: row.text("name")?,
        run: row.json("run")?,
        build: row.json("build")?,
        packages: row.json("packages")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

impl Store {
    /// The stacks that were made, by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn stacks(&self) -> Result<Vec<Stack>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM stacks ORDER BY name").fetch_all(self.readers()).await?;
        rows.iter().map(|row| stack(&Columns(row))).collect()
    }

    /// A stack, when it was made.
    ///
    /// # Errors
    /// What the database says.
    pub async fn stack(&self, name: &str) -> Result<Option<Stack>, StoreError> {
        let row = sqlx::query("SELECT * FROM stacks WHERE name = $1")
            .bind(name)
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| stack(&Columns(&row))).transpose()
    }

    /// Writes a stack that was made, in the place of the one of its name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn put_stack(&self, stack: &Stack, by: &By) -> Result<(), StoreError> {
        let shown = |run: &LayerRef, build: &LayerRef| json!({"name": stack.name, "run": run.diff_id, "build": build.diff_id});
        let before = self.stack(&stack.name).await?;
        let mut write = self.write(by).await?;
        sqlx::query(
            "INSERT INTO stacks (name, run, build, packages, created_at_ms)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (name) DO UPDATE SET run = excluded.run, build = excluded.build,
               packages = excluded.packages, created_at_ms = excluded.created_at_ms",
        )
        .bind(&stack.name)
        .bind(to_json("run", &stack.run)?)
        .bind(to_json("build", &stack.build)?)
        .bind(to_json("packages", &stack.packages)?)
        .bind(stack.created_at_ms)
        .execute(write.db())
        .await?;
        let event = NewEvent {
            kind: "stack.made",
            subject: stack.name.clone(),
            app: None,
            team: None,
            before: before.map_or(Value::Null, |before| shown(&before.run, &before.build)),
            after: shown(&stack.run, &stack.build),
        };
        write.finish(event).await.map(drop)
    }
}
