//! Teams, tokens, SSH keys, and the callers that they make.

mod keys;
mod teams;
mod tokens;

pub use keys::{Key, NewKey};
pub use teams::Team;
pub use tokens::{NewToken, Token, token_hash};

use berth_model::PrincipalId;
use sqlx::sqlite::SqliteConnection;

use crate::StoreError;

/// Writes a new principal.
async fn insert_principal(
    db: &mut SqliteConnection,
    id: PrincipalId,
    kind: &str,
    name: &str,
    at_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO principals (id, kind, name, created_at_ms) VALUES ($1, $2, $3, $4)")
        .bind(id.to_string())
        .bind(kind)
        .bind(name)
        .bind(at_ms)
        .execute(db)
        .await?;
    Ok(())
}
