//! Rules over what is measured, and whether they are broken.

use berth_model::alert::{ALERTS_MAX, ALERTS_OF_APP_MAX, Alert, Comparison, Turn};
use berth_model::principal::Visible;
use berth_model::{AlertId, AppId};
use serde_json::{Value, json};

use crate::apps::team_of;
use crate::events::NewEvent;
use crate::row::Columns;
use crate::store::{Write, id_time, random};
use crate::{By, Store, StoreError};

/// A rule to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAlert {
    /// Whose measure; nothing for the machine's.
    pub app: Option<AppId>,
    /// The name of the measure.
    pub measure: String,
    /// Which values break it.
    pub comparison: Comparison,
    /// The threshold.
    pub value: f64,
    /// How long it has to be broken, milliseconds.
    pub for_ms: i64,
}

fn alert(row: &Columns<'_>) -> Result<Alert, StoreError> {
    Ok(Alert {
        id: row.parsed("id")?,
        app: row.opt_parsed("app_id")?,
        measure: row.text("measure")?,
        comparison: row.parsed("comparison")?,
        value: row.real("value")?,
        for_ms: row.int("for_ms")?,
        created_at_ms: row.int("created_at_ms")?,
        raised_at_ms: row.opt_int("raised_at_ms")?,
    })
}

fn shown(alert: &Alert) -> Value {
    json!({
        "app": alert.app,
        "measure": alert.measure,
        "comparison": alert.comparison,
        "threshold": alert.value,
        "for_ms": alert.for_ms,
    })
}

impl Store {
    /// Makes a rule; nothing when there are [`ALERTS_MAX`] already, or [`ALERTS_OF_APP_MAX`] of the
    /// app.
    ///
    /// # Errors
    /// What the database says.
    pub async fn create_alert(&self, new: &NewAlert, by: &By) -> Result<Option<Alert>, StoreError> {
        let alert = Alert {
            id: AlertId::new(id_time(by.at_ms), random()?),
            app: new.app,
            measure: new.measure.clone(),
            comparison: new.comparison,
            value: new.value,
            for_ms: new.for_ms,
            created_at_ms: by.at_ms,
            raised_at_ms: None,
        };
        let mut write = self.write(by).await?;
        let done = sqlx::query(
            "INSERT INTO alerts (id, app_id, measure, comparison, value, for_ms, created_at_ms)
             SELECT $1, $2, $3, $4, $5, $6, $7
             WHERE (SELECT count(*) FROM alerts) < $8
               AND (SELECT count(*) FROM alerts WHERE app_id = $2) < $9",
        )
        .bind(alert.id.to_string())
        .bind(alert.app.map(|app| app.to_string()))
        .bind(&alert.measure)
        .bind(alert.comparison.as_str())
        .bind(alert.value)
        .bind(alert.for_ms)
        .bind(alert.created_at_ms)
        .bind(i64::from(ALERTS_MAX))
        .bind(i64::from(ALERTS_OF_APP_MAX))
        .execute(write.db())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        finish(write, "alert.created", &alert, Value::Null, shown(&alert)).await?;
        Ok(Some(alert))
    }

    /// At most `limit` rules before an id, newest first: of some teams' apps, or all, those of the
    /// machine among them; of one app where it is given.
    ///
    /// # Errors
    /// What the database says.
    pub async fn alerts(
        &self,
        visible: impl Into<Visible>,
        app: Option<AppId>,
        before: Option<AlertId>,
        limit: u32,
    ) -> Result<Vec<Alert>, StoreError> {
        let before = before.map(|id| id.to_string());
        let rows = self.rows_of_apps("alerts", &visible.into(), app, before, limit).await?;
        rows.iter().map(|row| alert(&Columns(row))).collect()
    }

    /// A rule.
    ///
    /// # Errors
    /// What the database says.
    pub async fn alert(&self, id: AlertId) -> Result<Option<Alert>, StoreError> {
        let row = sqlx::query("SELECT * FROM alerts WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| alert(&Columns(&row))).transpose()
    }

    /// Removes a rule; one that is gone is fine.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove_alert(&self, id: AlertId, by: &By) -> Result<(), StoreError> {
        let Some(alert) = self.alert(id).await? else { return Ok(()) };
        let mut write = self.write(by).await?;
        let done = sqlx::query("DELETE FROM alerts WHERE id = $1")
            .bind(id.to_string())
            .execute(write.db())
            .await?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        finish(write, "alert.removed", &alert, shown(&alert), Value::Null).await
    }

    /// Writes down that a rule is broken, or kept again, with the value that says so and the instance
    /// that it is of. Nothing happens where it is written already, or the rule is gone.
    ///
    /// # Errors
    /// What the database says.
    pub async fn turn_alert(
        &self,
        alert: &Alert,
        turn: Turn,
        value: Option<f64>,
        instance: Option<&str>,
        by: &By,
    ) -> Result<(), StoreError> {
        let raised = turn == Turn::Raised;
        let mut write = self.write(by).await?;
        let done = sqlx::query(
            "UPDATE alerts SET raised_at_ms = $2
             WHERE id = $1 AND (raised_at_ms IS NULL) = ($2 IS NOT NULL)",
        )
        .bind(alert.id.to_string())
        .bind(raised.then_some(by.at_ms))
        .execute(write.db())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        let mut after = shown(alert);
        after["value"] = json!(value);
        after["instance"] = json!(instance);
        let kind = if raised { "alert.raised" } else { "alert.cleared" };
        finish(write, kind, alert, Value::Null, after).await
    }
}

async fn finish(
    mut write: Write,
    kind: &'static str,
    alert: &Alert,
    before: Value,
    after: Value,
) -> Result<(), StoreError> {
    let team = match alert.app {
        Some(app) => team_of(write.db(), app).await?,
        None => None,
    };
    let subject = alert.id.to_string();
    write.finish(NewEvent { kind, subject, app: alert.app, team, before, after }).await?;
    Ok(())
}
