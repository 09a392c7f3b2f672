//! Passwords of users, of which only hashes are kept.

use berth_model::{SessionId, UserId};
use serde_json::{Value, json};

use super::{sessions, users};
use crate::{By, Store, StoreError};

impl Store {
    /// Sets a user's password, in the PHC string format; the sessions end but the one that may stay,
    /// and a link is worth nothing. With `was`, only while the password is that one.
    ///
    /// # Errors
    /// `Missing`, and what the database says. `false` when somebody else was faster.
    pub async fn set_password(
        &self,
        id: UserId,
        password: &str,
        was: Option<&str>,
        stays: SessionId,
        by: &By,
    ) -> Result<bool, StoreError> {
        let mut write = self.write(by).await?;
        let user = users::by_id(write.db(), id).await?;
        let session = sessions::by_id(write.db(), stays).await?;
        let may = match was {
            Some(was) => user.password.as_deref() == Some(was),
            None => session.is_some_and(|session| session.sets_password),
        };
        if !may {
            return Ok(false);
        }
        sqlx::query("UPDATE users SET password = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(password)
            .execute(write.db())
            .await?;
        sqlx::query("DELETE FROM sessions WHERE user_id = $1 AND id <> $2")
            .bind(id.to_string())
            .bind(stays.to_string())
            .execute(write.db())
            .await?;
        sqlx::query("UPDATE sessions SET sets_password = 0 WHERE id = $1")
            .bind(stays.to_string())
            .execute(write.db())
            .await?;
        sqlx::query("DELETE FROM sign_in_links WHERE user_id = $1")
            .bind(id.to_string())
            .execute(write.db())
            .await?;
        let after = json!({ "name": user.name });
        write.finish(users::event("user.password", &user, Value::Null, after)).await?;
        Ok(true)
    }
}
