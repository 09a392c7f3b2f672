//! How the store fails.

use std::path::PathBuf;

use berth_model::plan::Refusal;

/// The store did not do what was asked; nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be used.
    #[error("cannot open the database {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The file was written by a newer version, or a migration failed.
    #[error(
        "cannot bring the database {path} to this version of Berth; was it written by a newer one?"
    )]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// Values were encrypted with another key.
    #[error(
        "the database was written with the encryption key {stored}, and the given key is {given}; start with the right key file"
    )]
    WrongKey {
        /// Id of the key that the values were encrypted with.
        stored: String,
        /// Id of the key that was given.
        given: String,
    },
    /// A sealed value was changed, or moved from its place.
    #[error("the encrypted value {0} cannot be read; it was changed outside of Berth")]
    Unsealed(String),
    /// The disk is full.
    #[error("the disk of the database is full; free some space in the data folder")]
    Full(#[source] sqlx::Error),
    /// Something else holds the database.
    #[error("the database is locked by another process; end it, or wait")]
    Locked(#[source] sqlx::Error),
    /// The file cannot be written, or is damaged.
    #[error("the database file cannot be read or written")]
    Damaged(#[source] sqlx::Error),
    /// Any other failure of the database.
    #[error("the database did not do what was asked")]
    Database(#[source] sqlx::Error),
    /// A row holds what this version does not understand.
    #[error("cannot understand column {column} of the database: {reason}")]
    Row {
        /// Which column.
        column: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such thing.
    #[error("there is no {what} {name}")]
    Missing {
        /// What kind of thing.
        what: &'static str,
        /// Its id or name.
        name: String,
    },
    /// Something of that name exists already.
    #[error("the {what} '{name}' exists already")]
    Exists {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The app was changed in between.
    #[error(
        "the app was changed in the meantime (generation {expected} was expected, it has {found}); look at it again"
    )]
    Changed {
        /// What the change was planned on.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A state would go back.
    #[error("{what} {id} is {from} and cannot become {to}")]
    Backwards {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
        /// Its state.
        from: &'static str,
        /// The state that was asked for.
        to: &'static str,
    },
    /// Nobody could manage the platform in the console any more.
    #[error("{0} is the last active administrator; make another user one first")]
    LastAdministrator(String),
    /// A team that has something, or that is always there.
    #[error("the team {name} {why}")]
    TeamStays {
        /// The team.
        name: String,
        /// What it has, and what to do.
        why: &'static str,
    },
    /// The change is not allowed as things are.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(|error| error.code())
            .and_then(|code| code.parse::<i32>().ok())
            // The lowest byte is the primary result code.
            .map(|code| code & 0xff);
        match code {
            Some(libsqlite::BUSY | libsqlite::LOCKED) => Self::Locked(error),
            Some(libsqlite::FULL) => Self::Full(error),
            Some(
                libsqlite::READONLY
                | libsqlite::IOERR
                | libsqlite::CORRUPT
                | libsqlite::CANTOPEN
                | libsqlite::NOTADB,
            ) => Self::Damaged(error),
            _ => Self::Database(error),
        }
    }
}

impl StoreError {
    /// Whether a row stood in the way that must be unique.
    pub(crate) fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Database(error)
            if error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation))
    }

    /// Gives a unique violation its name.
    pub(crate) fn exists(self, what: &'static str, name: &str) -> Self {
        if self.is_unique_violation() { Self::Exists { what, name: name.to_owned() } } else { self }
    }
}

/// Primary result codes (sqlite.org/rescode.html).
mod libsqlite {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
}
