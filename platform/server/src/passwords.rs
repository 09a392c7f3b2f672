//! Passwords: their rule, their hashes, and how many are looked at at once.
//!
//! Hashes are argon2id in the PHC string format (RFC 9106). One takes memory on purpose, so few are
//! made at the same time, apart from the threads that answer calls; who has to wait too long is told
//! to come again. A password that is looked at for nobody takes as long as for somebody.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use berth_store::SessionLimits;
use tokio::sync::Semaphore;

use crate::config::ConsoleConfig;
use crate::guesses::{Guesses, Try};

/// Shortest password, characters, and longest, bytes. There is no rule of composition (NIST SP
/// 800-63B, section 5.1.1.2).
pub(crate) const CHARS_MIN: usize = 12;
pub(crate) const BYTES_MAX: usize = 128;
/// Memory of one hash, KiB, and how often it is passed: what OWASP's cheat sheet on the storage of
/// passwords recommends for one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// Hashes that are made at once, and calls that wait for one.
const HASHES_MAX: usize = 2;
const WAITING_MAX: usize = 32;

/// As many passwords are looked at as the platform allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// How people sign in to the console.
pub struct SignIn {
    /// How long a session lasts.
    pub(crate) limits: SessionLimits,
    /// How long a link is good, milliseconds.
    pub(crate) link_ms: i64,
    /// How long the link of a new user is good, milliseconds.
    pub(crate) invitation_ms: i64,
    hashing: Arc<Semaphore>,
    waiting: Semaphore,
    guesses: Mutex<Guesses>,
}

impl SignIn {
    /// As an operator wants it.
    pub fn new(config: ConsoleConfig) -> Self {
        let ms = |s: std::num::NonZeroU32| i64::from(s.get()) * 1000;
        Self {
            limits: SessionLimits {
                idle_ms: ms(config.session_idle_s),
                absolute_ms: ms(config.session_s),
            },
            link_ms: ms(config.link_s),
            invitation_ms: ms(config.invitation_s),
            hashing: Arc::new(Semaphore::new(HASHES_MAX)),
            waiting: Semaphore::new(WAITING_MAX),
            guesses: Mutex::default(),
        }
    }

    /// Begins a try to guess the password of a name, or says how long to wait.
    pub(crate) fn begin(
        &self,
        name: &str,
        from: Option<std::net::IpAddr>,
    ) -> Result<Try, Duration> {
        self.guesses().begin(name, from, Instant::now())
    }

    /// The password was right.
    pub(crate) fn right(&self, made: Try) {
        self.guesses().right(made);
    }

    /// It was wrong.
    pub(crate) fn wrong(&self, made: Try) {
        self.guesses().wrong(made, Instant::now());
    }

    /// Nobody looked at it.
    pub(crate) fn unanswered(&self, made: Try) {
        self.guesses().unanswered(made);
    }

    fn guesses(&self) -> std::sync::MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a hash is that of a password; without one no, after the same time.
    pub(crate) async fn is_right(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, Busy> {
        self.apart(move || matches(&password, hash.as_deref())).await
    }

    /// The hash of a password; nothing when the system gives no random bytes.
    pub(crate) async fn hash(&self, password: String) -> Result<Option<String>, Busy> {
        self.apart(move || hashed(&password)).await
    }

    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let _waits = self.waiting.try_acquire().map_err(|_| Busy)?;
        let permit = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| Busy)?;
        // The permit goes with the work, which goes on when the caller does not wait for it.
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        done.await.map_err(|_| Busy)
    }
}

/// What is wrong with a password that somebody chooses.
pub(crate) fn flaw(password: &str, user: &str) -> Option<String> {
    if password.chars().count() < CHARS_MIN {
        Some(format!("use {CHARS_MIN} characters or more; a few words are easy to remember"))
    } else if password.len() > BYTES_MAX {
        Some(format!("use {BYTES_MAX} bytes at most"))
    } else if password.contains('\0') {
        Some("a password has no NUL character".to_owned())
    } else if password.to_lowercase().replace(user, "").chars().count() < CHARS_MIN / 2 {
        Some("use more than the user's name".to_owned())
    } else {
        None
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hashed(password: &str) -> Option<String> {
    argon2()?.hash_password(password.as_bytes()).ok().map(|hash| hash.to_string())
}

fn matches(password: &str, hash: Option<&str>) -> bool {
    /// The hash of something that nobody knows.
    static NOBODYS: OnceLock<Option<String>> = OnceLock::new();
    let nobodys = NOBODYS.get_or_init(|| {
        let mut random = [0; 32];
        getrandom::fill(&mut random).ok()?;
        hashed(&hex::encode(random))
    });
    let Some(looked_at) = hash.or(nobodys.as_deref()) else { return false };
    let right =
        argon2().zip(PasswordHash::new(looked_at).ok()).is_some_and(|(argon2, looked_at)| {
            argon2.verify_password(password.as_bytes(), &looked_at).is_ok()
        });
    right && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_right_for_its_own_hash_and_for_nobody() {
        let sign_in = SignIn::new(ConsoleConfig::default());
        let password = "correct horse battery".to_owned();
        let hash = sign_in.hash(password.clone()).await.unwrap().unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(!hash.contains("horse"));
        let again = sign_in.hash(password.clone()).await.unwrap().unwrap();
        assert_ne!(hash, again, "each has a salt of its own");
        assert_eq!(sign_in.is_right(password.clone(), Some(hash.clone())).await, Ok(true));
        assert_eq!(sign_in.is_right("Correct horse battery".into(), Some(hash)).await, Ok(false));
        assert_eq!(sign_in.is_right(password.clone(), None).await, Ok(false));
        assert_eq!(sign_in.is_right(password, Some("not a hash".into())).await, Ok(false));
    }

    #[tokio::test]
    async fn only_so_many_are_looked_at_and_wait() {
        let sign_in = SignIn::new(ConsoleConfig::default());
        let all = (0..100).map(|_| sign_in.apart(|| ()));
        let all = futures_util::future::join_all(all).await;
        let busy = all.iter().filter(|done| done.is_err()).count();
        assert_eq!(busy, 100 - WAITING_MAX);
        assert_eq!(sign_in.apart(|| 1).await, Ok(1), "and then there is room again");
    }

    #[test]
    fn a_password_is_long_and_that_is_all() {
        for good in ["correct horse", "aaaaaaaaaaab", &"ä".repeat(64), "            "] {
            assert_eq!(flaw(good, "anna"), None, "{good}");
        }
        for bad in
            ["", "short", "elevenchars", "annaannaanna", &"x".repeat(129), "nul\0in-the-middle"]
        {
            assert!(flaw(bad, "anna").is_some(), "{bad}");
        }
    }
}
