//! Builds and their output.

use berth_model::image::Image;
use berth_model::{AppId, Build, BuildId, BuildState, Digest};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use crate::apps::{existing, missing, team_of};
use crate::events::NewEvent;
use crate::row::{Columns, to_int};
use crate::store::{id_time, random};
use crate::{By, Store, StoreError, images, memo};

/// Most bytes of one line of a build's output; longer ones are cut.
pub const BUILD_LOG_LINE_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of one build's output; what comes after is left out, and a last line says so.
pub const BUILD_LOG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most lines of one build's output.
const BUILD_LOG_LINES_MAX: u64 = 200_000;

/// How a build ends.
#[derive(Debug, Clone, Copy)]
pub enum BuildEnd<'a> {
    /// An image exists.
    Succeeded {
        /// The image.
        image: &'a Image,
        /// What the app's next build may start from; opaque here. Nothing leaves what was there.
        layers: Option<&'a Value>,
        /// Digest of every input of the build: the next build of the same has this image.
        memo: Option<Digest>,
    },
    /// The source or a tool failed.
    Failed(&'a str),
    /// Its owner, or a closed connection, ended it.
    Cancelled(&'a str),
    /// The platform stopped while it ran.
    Abandoned(&'a str),
}

/// One line of a build's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// 1, 2, 3… within the build.
    pub seq: u64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The text.
    pub line: String,
}

fn build(row: &Columns<'_>) -> Result<Build, StoreError> {
    Ok(Build {
        id: row.parsed("id")?,
        app: row.parsed("app_id")?,
        commit: row.text("commit_id")?,
        source: row.parsed("source")?,
        state: row.word("state")?,
        image: row.opt_parsed("image")?,
        error: row.opt_text("error")?,
        ref_name: row.opt_text("ref_name")?,
        deployment: row.opt_parsed("deployment_id")?,
        open: row.int("open")? != 0,
        created_at_ms: row.int("created_at_ms")?,
        finished_at_ms: row.opt_int("finished_at_ms")?,
    })
}

async fn by_id(db: &mut SqliteConnection, id: BuildId) -> Result<Option<Build>, StoreError> {
    let row = sqlx::query("SELECT * FROM builds WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| build(&Columns(&row))).transpose()
}

fn shown(build: &Build) -> Value {
    json!({
        "state": build.state,
        "commit": build.commit,
        "image": build.image,
        "error": build.error,
    })
}

impl Store {
    /// A new build, which runs. `ref_name` is the ref that is to name the commit once it answers;
    /// nothing when nobody pushed.
    ///
    /// # Errors
    /// `Missing` when there is no such app; what the database says.
    pub async fn create_build(
        &self,
        app: AppId,
        commit: &str,
        source: Digest,
        ref_name: Option<&str>,
        by: &By,
    ) -> Result<Build, StoreError> {
        let mut write = self.write(by).await?;
        let team = existing(write.db(), app).await?.ok_or_else(|| missing(app))?.team;
        let build = Build {
            id: BuildId::new(id_time(by.at_ms), random()?),
            app,
            commit: commit.to_owned(),
            source,
            state: BuildState::Running,
            image: None,
            error: None,
            ref_name: ref_name.map(str::to_owned),
            deployment: None,
            open: true,
            created_at_ms: by.at_ms,
            finished_at_ms: None,
        };
        sqlx::query(
            "INSERT INTO builds (id, app_id, commit_id, source, state, ref_name, open, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, 1, $7)",
        )
        .bind(build.id.to_string())
        .bind(app.to_string())
        .bind(commit)
        .bind(source.to_string())
        .bind(build.state.as_str())
        .bind(ref_name)
        .bind(by.at_ms)
        .execute(write.db())
        .await?;
        let event = NewEvent {
            kind: "build.created",
            subject: build.id.to_string(),
            app: Some(app),
            team: Some(team),
            before: Value::Null,
            after: shown(&build),
        };
        write.finish(event).await?;
        Ok(build)
    }

    /// Ends a build, with everything that its success leaves, in one transaction. A build that has
    /// ended already stays as it is.
    ///
    /// # Errors
    /// `Missing`, and what the database says.
    pub async fn finish_build(
        &self,
        id: BuildId,
        end: BuildEnd<'_>,
        by: &By,
    ) -> Result<Build, StoreError> {
        let mut write = self.write(by).await?;
        let before = by_id(write.db(), id)
            .await?
            .ok_or_else(|| StoreError::Missing { what: "build", name: id.to_string() })?;
        if before.state.is_terminal() {
            return Ok(before);
        }
        let (state, image, error) = match end {
            BuildEnd::Succeeded { image, .. } => (BuildState::Succeeded, Some(image), None),
            BuildEnd::Failed(error) => (BuildState::Failed, None, Some(error)),
            BuildEnd::Cancelled(error) => (BuildState::Cancelled, None, Some(error)),
            BuildEnd::Abandoned(error) => (BuildState::Abandoned, None, Some(error)),
        };
        let after = Build {
            state,
            image: image.map(|image| image.digest),
            error: error.map(str::to_owned),
            finished_at_ms: Some(by.at_ms),
            ..before.clone()
        };
        if let BuildEnd::Succeeded { image, layers, memo } = end {
            images::put(write.db(), image, by.at_ms).await?;
            memo::put(write.db(), after.app, layers, memo.map(|key| (key, image.digest)), by.at_ms)
                .await?;
        }
        sqlx::query(
            "UPDATE builds SET state = $2, image = $3, error = $4, finished_at_ms = $5 WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(after.state.as_str())
        .bind(after.image.map(|digest| digest.to_string()))
        .bind(&after.error)
        .bind(after.finished_at_ms)
        .execute(write.db())
        .await?;
        let team = team_of(write.db(), after.app).await?;
        let event = NewEvent {
            kind: "build.finished",
            subject: id.to_string(),
            app: Some(after.app),
            team,
            before: shown(&before),
            after: shown(&after),
        };
        write.finish(event).await?;
        self.build_logs_changed();
        Ok(after)
    }

    /// Nothing follows on a build any more: no line of its log, no move of its ref.
    ///
    /// # Errors
    /// What the database says.
    pub async fn close_build(&self, id: BuildId) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE builds SET open = 0 WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.build_logs_changed();
        Ok(())
    }

    /// Builds on which something may still follow, oldest first. At start: what a process before
    /// this one did not bring to its end.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open_builds(&self) -> Result<Vec<Build>, StoreError> {
        let rows = sqlx::query("SELECT * FROM builds WHERE open = 1 ORDER BY id")
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(|row| build(&Columns(row))).collect()
    }

    /// Ends every build that a process before this one left running. At start only.
    ///
    /// # Errors
    /// What the database says.
    pub async fn abandon_running_builds(&self, at_ms: i64) -> Result<Vec<BuildId>, StoreError> {
        let by = By::system(at_ms);
        let rows = sqlx::query("SELECT id FROM builds WHERE state = 'running' ORDER BY id")
            .fetch_all(self.readers())
            .await?;
        let mut ended = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = Columns(row).parsed("id")?;
            let end = BuildEnd::Abandoned("the platform stopped while it ran; push again");
            self.finish_build(id, end, &by).await?;
            ended.push(id);
        }
        Ok(ended)
    }

    /// A build.
    ///
    /// # Errors
    /// What the database says.
    pub async fn build(&self, id: BuildId) -> Result<Option<Build>, StoreError> {
        let mut tx = self.read().await?;
        by_id(&mut tx, id).await
    }

    /// At most `limit` builds of an app before an id, newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn builds(
        &self,
        app: AppId,
        before: Option<BuildId>,
        limit: u32,
    ) -> Result<Vec<Build>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM builds WHERE app_id = $1 AND ($2 IS NULL OR id < $2)
             ORDER BY id DESC LIMIT $3",
        )
        .bind(app.to_string())
        .bind(before.map(|id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| build(&Columns(row))).collect()
    }

    /// The newest build of a commit of an app that succeeded.
    ///
    /// # Errors
    /// What the database says.
    pub async fn built(&self, app: AppId, commit: &str) -> Result<Option<Build>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM builds WHERE app_id = $1 AND commit_id = $2 AND state = 'succeeded'
             ORDER BY id DESC LIMIT 1",
        )
        .bind(app.to_string())
        .bind(commit)
        .fetch_optional(self.readers())
        .await?;
        row.map(|row| build(&Columns(&row))).transpose()
    }

    /// Appends lines to a build's output, in one transaction: give several at once. What is over
    /// the limits is left out, which a last line says.
    ///
    /// # Errors
    /// What the database says.
    pub async fn append_build_log(
        &self,
        id: BuildId,
        lines: &[String],
        at_ms: i64,
    ) -> Result<(), StoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        let row = sqlx::query(
            "SELECT coalesce(max(seq), 0) AS seq, coalesce(sum(length(CAST(line AS BLOB))), 0) AS bytes
             FROM build_log WHERE build_id = $1",
        )
        .bind(id.to_string())
        .fetch_one(&mut *tx)
        .await?;
        let mut seq: u64 = Columns(&row).number("seq")?;
        let mut bytes: usize = Columns(&row).number("bytes")?;
        for line in lines {
            let full = bytes > BUILD_LOG_BYTES_MAX || seq >= BUILD_LOG_LINES_MAX;
            // The line that says so is the one that goes past the limit.
            if full && bytes > BUILD_LOG_BYTES_MAX + BUILD_LOG_LINE_BYTES_MAX {
                break;
            }
            let line =
                if full { "(the output is too long; the rest is left out)" } else { cut(line) };
            seq += 1;
            sqlx::query(
                "INSERT INTO build_log (build_id, seq, at_ms, line) VALUES ($1, $2, $3, $4)",
            )
            .bind(id.to_string())
            .bind(to_int("seq", seq)?)
            .bind(at_ms)
            .bind(line)
            .execute(&mut *tx)
            .await?;
            bytes += line.len();
            if full {
                break;
            }
        }
        tx.commit().await?;
        self.build_logs_changed();
        Ok(())
    }

    /// At most `limit` lines of a build's output after a number.
    ///
    /// # Errors
    /// What the database says.
    pub async fn build_log(
        &self,
        id: BuildId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<LogLine>, StoreError> {
        let rows = sqlx::query(
            "SELECT seq, at_ms, line FROM build_log WHERE build_id = $1 AND seq > $2
             ORDER BY seq LIMIT $3",
        )
        .bind(id.to_string())
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(LogLine {
                    seq: row.number("seq")?,
                    at_ms: row.int("at_ms")?,
                    line: row.text("line")?,
                })
            })
            .collect()
    }
}

/// The line up to its limit, at a character's border.
fn cut(line: &str) -> &str {
    if line.len() <= BUILD_LOG_LINE_BYTES_MAX {
        return line;
    }
    let mut end = BUILD_LOG_LINE_BYTES_MAX;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}
