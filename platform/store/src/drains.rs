//! Log drains and how far each has sent. A drain's address is sealed; positions are counters, which
//! write no event.

use berth_model::drain::{DRAINS_MAX, Reach, SinkUrl};
use berth_model::extension::ExtensionId;
use berth_model::principal::Visible;
use berth_model::{AppId, AppName, DrainId, InstanceId, InstanceRecord};
use serde_json::{Value, json};

use crate::apps::team_of;
use crate::events::NewEvent;
use crate::instances::instance;
use crate::row::{Columns, to_int, to_json};
use crate::seal::Place;
use crate::store::{id_time, random};
use crate::{By, Store, StoreError};

/// Logs that one drain follows at once; the oldest come first.
const SOURCES_MAX: i64 = 2000;

/// What became of lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainCounts {
    /// Messages that the sink took.
    pub sent: u64,
    /// Lines that it will never get.
    pub dropped: u64,
    /// Lines that were sent without a processor that failed.
    pub unprocessed: u64,
}

/// A log drain, without what its address may hide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Its id.
    pub id: DrainId,
    /// Whose lines; nothing for those of every app.
    pub app: Option<AppId>,
    /// Its address, without credentials.
    pub shown: String,
    /// Certificates of authorities that it trusts besides the machine's, PEM.
    pub ca: Option<String>,
    /// Which addresses it may connect to.
    pub reach: Reach,
    /// Extensions that change its lines, in this order.
    pub processors: Vec<ExtensionId>,
    /// Unix milliseconds; older lines are not sent.
    pub created_at_ms: i64,
    /// Since then.
    pub counts: DrainCounts,
}

/// A drain to be made.
#[derive(Debug, Clone)]
pub struct NewDrain {
    /// Whose lines; nothing for those of every app.
    pub app: Option<AppId>,
    /// Where to.
    pub url: SinkUrl,
    /// Certificates of authorities that it trusts besides the machine's, PEM.
    pub ca: Option<String>,
    /// Which addresses it may connect to.
    pub reach: Reach,
    /// Extensions that change its lines, in this order.
    pub processors: Vec<ExtensionId>,
}

/// A log that a drain follows.
#[derive(Debug, Clone)]
pub struct DrainSource {
    /// The app.
    pub app: AppName,
    /// The instance that writes it.
    pub instance: InstanceRecord,
    /// The last line that was sent; 0 for none.
    pub seq: u64,
}

/// How far a log was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainCursor {
    /// Whose log.
    pub instance: InstanceId,
    /// The last line that was sent, or given up.
    pub seq: u64,
    /// Nothing follows.
    pub done: bool,
}

fn drain(row: &Columns<'_>) -> Result<Drain, StoreError> {
    Ok(Drain {
        id: row.parsed("id")?,
        app: row.opt_parsed("app_id")?,
        shown: row.text("shown")?,
        ca: row.opt_text("ca")?,
        reach: reach(row.int("reach")?),
        processors: row.json("processors")?,
        created_at_ms: row.int("created_at_ms")?,
        counts: DrainCounts {
            sent: row.number("sent")?,
            dropped: row.number("dropped")?,
            unprocessed: row.number("unprocessed")?,
        },
    })
}

/// What is none of the numbers reaches least.
fn reach(number: i64) -> Reach {
    match number {
        n if n == Reach::Any as i64 => Reach::Any,
        n if n == Reach::Private as i64 => Reach::Private,
        _ => Reach::Public,
    }
}

fn shown(drain: &Drain) -> Value {
    json!({
        "app": drain.app,
        "url": drain.shown,
        "reach": drain.reach,
        "processors": drain.processors,
    })
}

impl Store {
    /// Makes a drain; nothing when there are [`DRAINS_MAX`] already.
    ///
    /// # Errors
    /// What the database says.
    pub async fn create_drain(&self, new: &NewDrain, by: &By) -> Result<Option<Drain>, StoreError> {
        let drain = Drain {
            id: DrainId::new(id_time(by.at_ms), random()?),
            app: new.app,
            shown: new.url.to_string(),
            ca: new.ca.clone(),
            reach: new.reach,
            processors: new.processors.clone(),
            created_at_ms: by.at_ms,
            counts: DrainCounts::default(),
        };
        let id = drain.id.to_string();
        let sealed = self.sealer().seal(&Place(&["drains", &id]), new.url.reveal())?;
        let mut write = self.write(by).await?;
        let done = sqlx::query(
            "INSERT INTO drains
               (id, app_id, shown, key_id, sealed, ca, reach, processors, created_at_ms)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
             WHERE (SELECT count(*) FROM drains) < $10",
        )
        .bind(&id)
        .bind(drain.app.map(|app| app.to_string()))
        .bind(&drain.shown)
        .bind(self.sealer().key_id())
        .bind(sealed)
        .bind(&drain.ca)
        .bind(drain.reach as i64)
        .bind(to_json("processors", &drain.processors)?)
        .bind(drain.created_at_ms)
        .bind(i64::from(DRAINS_MAX))
        .execute(write.db())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let event = NewEvent {
            kind: "drain.created",
            subject: id,
            app: drain.app,
            team: match drain.app {
                Some(app) => team_of(write.db(), app).await?,
                None => None,
            },
            before: Value::Null,
            after: shown(&drain),
        };
        write.finish(event).await?;
        Ok(Some(drain))
    }

    /// At most `limit` drains before an id, newest first: of a team's apps, or all, those of every
    /// app among them; of one app where it is given.
    ///
    /// # Errors
    /// What the database says.
    pub async fn drains(
        &self,
        visible: impl Into<Visible>,
        app: Option<AppId>,
        before: Option<DrainId>,
        limit: u32,
    ) -> Result<Vec<Drain>, StoreError> {
        let before = before.map(|id| id.to_string());
        let rows = self.rows_of_apps("drains", &visible.into(), app, before, limit).await?;
        rows.iter().map(|row| drain(&Columns(row))).collect()
    }

    /// A drain.
    ///
    /// # Errors
    /// What the database says.
    pub async fn drain(&self, id: DrainId) -> Result<Option<Drain>, StoreError> {
        let row = sqlx::query("SELECT * FROM drains WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| drain(&Columns(&row))).transpose()
    }

    /// The whole address of a drain; nothing when it was removed.
    ///
    /// # Errors
    /// What the database says; an address that was changed outside of Berth.
    pub async fn drain_url(&self, id: DrainId) -> Result<Option<SinkUrl>, StoreError> {
        let id = id.to_string();
        let row = sqlx::query("SELECT key_id, sealed FROM drains WHERE id = $1")
            .bind(&id)
            .fetch_optional(self.readers())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let row = Columns(&row);
        let place = Place(&["drains", &id]);
        let url = self.sealer().open(&place, &row.text("key_id")?, &row.bytes("sealed")?)?;
        url.parse().map(Some).map_err(|error: berth_model::drain::SinkUrlError| StoreError::Row {
            column: "sealed".to_owned(),
            reason: error.to_string(),
        })
    }

    /// Removes a drain, with how far it was. One that is not there is fine.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove_drain(&self, id: DrainId, by: &By) -> Result<(), StoreError> {
        let Some(drain) = self.drain(id).await? else { return Ok(()) };
        let mut write = self.write(by).await?;
        sqlx::query("DELETE FROM drains WHERE id = $1")
            .bind(id.to_string())
            .execute(write.db())
            .await?;
        let event = NewEvent {
            kind: "drain.removed",
            subject: id.to_string(),
            app: drain.app,
            team: match drain.app {
                Some(app) => team_of(write.db(), app).await?,
                None => None,
            },
            before: shown(&drain),
            after: Value::Null,
        };
        write.finish(event).await.map(drop)
    }

    /// The logs that a drain still has to follow: of instances that live, or lived when it was made.
    ///
    /// # Errors
    /// What the database says.
    pub async fn drain_sources(&self, drain: &Drain) -> Result<Vec<DrainSource>, StoreError> {
        let rows = sqlx::query(
            "SELECT instances.*, apps.name AS app_name, coalesce(seq, 0) AS seq
             FROM instances JOIN apps ON apps.id = instances.app_id
             LEFT JOIN drain_cursors ON drain_id = $1 AND instance_id = instances.id
             WHERE ($2 IS NULL OR instances.app_id = $2)
               AND (stopped_at_ms IS NULL OR stopped_at_ms >= $3)
               AND coalesce(done, 0) = 0
             ORDER BY instances.id LIMIT $4",
        )
        .bind(drain.id.to_string())
        .bind(drain.app.map(|app| app.to_string()))
        .bind(drain.created_at_ms)
        .bind(SOURCES_MAX)
        .fetch_all(self.readers())
        .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(DrainSource {
                    app: row.parsed("app_name")?,
                    instance: instance(&row)?,
                    seq: row.number("seq")?,
                })
            })
            .collect()
    }

    /// Writes how far logs were sent and adds to the counts, in one transaction. Positions only go
    /// forward. A drain or an instance that is gone meanwhile is fine.
    ///
    /// # Errors
    /// What the database says.
    pub async fn advance_drain(
        &self,
        id: DrainId,
        cursors: &[DrainCursor],
        counts: DrainCounts,
    ) -> Result<(), StoreError> {
        let id = id.to_string();
        let mut tx = self.begin().await?;
        for cursor in cursors {
            sqlx::query(
                "INSERT INTO drain_cursors (drain_id, instance_id, seq, done)
                 SELECT $1, $2, $3, $4
                 WHERE EXISTS (SELECT 1 FROM drains WHERE id = $1)
                   AND EXISTS (SELECT 1 FROM instances WHERE id = $2)
                 ON CONFLICT (drain_id, instance_id) DO UPDATE SET
                   seq = max(seq, excluded.seq), done = max(done, excluded.done)",
            )
            .bind(&id)
            .bind(cursor.instance.to_string())
            .bind(to_int("seq", cursor.seq)?)
            .bind(i64::from(cursor.done))
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query(
            "UPDATE drains SET sent = sent + $2, dropped = dropped + $3, unprocessed = unprocessed + $4
             WHERE id = $1",
        )
        .bind(&id)
        .bind(to_int("sent", counts.sent)?)
        .bind(to_int("dropped", counts.dropped)?)
        .bind(to_int("unprocessed", counts.unprocessed)?)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}
