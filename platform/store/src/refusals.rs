//! What somebody was refused, as an event.

use berth_model::{AppId, TeamId};
use serde_json::Value;

use crate::by::By;
use crate::events::NewEvent;
use crate::{Store, StoreError};

/// Somebody was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// `access.failed`, `access.denied`, `access.more`.
    pub kind: &'static str,
    /// Who, as far as that is known.
    pub by: By,
    /// Id of the thing, or `platform`.
    pub subject: String,
    /// The app that it was about.
    pub app: Option<AppId>,
    /// Who may see it; nothing means administrators only.
    pub team: Option<TeamId>,
    /// What was tried, without secrets.
    pub what: Value,
}

impl Store {
    /// Writes that somebody was refused. How often that is done is up to the caller.
    ///
    /// # Errors
    /// What the database says.
    pub async fn refused(&self, refused: Refused) -> Result<i64, StoreError> {
        let Refused { kind, by, subject, app, team, what } = refused;
        let event = NewEvent { kind, subject, app, team, before: Value::Null, after: what };
        self.write(&by).await?.finish(event).await
    }
}
