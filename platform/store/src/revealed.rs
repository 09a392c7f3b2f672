//! Values that somebody is shown, and the event that says so: first the event, then the values.

use berth_model::App;
use berth_model::plan::{Config, ConfigName};
use serde_json::{Value, json};

use crate::events::NewEvent;
use crate::{By, Store, StoreError};

impl Store {
    /// The version and the values of an app's configuration, or one of them, for somebody to read. An
    /// event says which names those are.
    ///
    /// # Errors
    /// What the database says; then nothing is shown.
    pub async fn reveal_config(
        &self,
        app: &App,
        only: Option<&ConfigName>,
        by: &By,
    ) -> Result<(u64, Config), StoreError> {
        let (version, mut values) = self.config(app.id).await?;
        if let Some(only) = only {
            values.retain(|name, _| name == only);
        }
        if values.is_empty() {
            return Ok((version, values));
        }
        let names: Vec<String> = values.keys().map(ToString::to_string).collect();
        let event = NewEvent {
            kind: "config.revealed",
            subject: app.id.to_string(),
            app: Some(app.id),
            team: Some(app.team),
            before: Value::Null,
            after: json!({ "version": version, "names": names }),
        };
        self.write(by).await?.finish(event).await?;
        Ok((version, values))
    }
}
