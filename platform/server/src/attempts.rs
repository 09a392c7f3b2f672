//! Calls that were refused, for whoever audits: wrong tokens and keys, and what a role does not allow.
//!
//! Takes what the API and git refuse; writes events, in the background, so that nobody learns from
//! the time of an answer whether something is there. It writes few however many come: what repeats
//! is counted, and there is a budget (`attempts/ledger.rs`). It never has a token, only that one was
//! wrong.

mod ledger;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use berth_model::principal::{Resource, Verb};
use berth_model::{AppId, Caller, Role, TeamId};
use berth_store::{By, Refused, Store};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use ledger::Ledger;

/// Attempts on their way to the ledger; more are only counted.
const QUEUE_MAX: usize = 256;
/// How long the end of the platform waits for what was counted.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// The subject of what is about no thing of its own.
const PLATFORM: &str = "platform";
/// Who did what nobody is known to have done.
const NOBODY: &str = "nobody";

/// One refusal.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    kind: Kind,
    by: By,
    subject: String,
    app: Option<AppId>,
    team: Option<TeamId>,
    /// What makes two attempts the same, besides the above.
    call: String,
    what: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Nobody knows who that was.
    Failed,
    /// Somebody may not do that.
    Denied,
}

/// What somebody was not allowed to do.
pub(crate) struct Denial<'a> {
    /// Who.
    pub(crate) caller: &'a Caller,
    /// What.
    pub(crate) verb: Verb,
    /// To what.
    pub(crate) resource: &'a Resource,
    /// The app, where it is about one.
    pub(crate) app: Option<AppId>,
    /// The role that would be given away.
    pub(crate) gives: Option<Role>,
    /// The call, without anything that the caller wrote.
    pub(crate) call: &'a str,
    /// Whether the answer was the one for a thing that is not there.
    pub(crate) hidden: bool,
}

enum Message {
    Attempt(Box<Attempt>),
    Close(oneshot::Sender<()>),
}

/// Where refusals are told. Cheap to clone.
#[derive(Clone)]
pub struct Attempts {
    queue: mpsc::Sender<Message>,
    unheard: Arc<AtomicU64>,
    now_ms: fn() -> i64,
}

impl Attempts {
    /// Begins to write to `store`, in a task that ends with the last clone.
    pub fn start(store: Store, now_ms: fn() -> i64) -> Self {
        let (queue, heard) = mpsc::channel(QUEUE_MAX);
        let unheard = Arc::<AtomicU64>::default();
        tokio::spawn(write(heard, Arc::clone(&unheard), store, now_ms));
        Self { queue, unheard, now_ms }
    }

    /// A token that is wrong, expired or revoked came over `over`.
    pub(crate) fn wrong_token(&self, over: &'static str, from: Option<IpAddr>) {
        self.failed(over, from, json!({ "over": over }));
    }

    /// A key that nobody added was all that a client had. Its fingerprint is no secret.
    pub(crate) fn wrong_key(&self, fingerprint: &str, from: Option<IpAddr>) {
        self.failed("SSH", from, json!({ "over": "SSH", "fingerprint": fingerprint }));
    }

    /// A password was wrong. The name is that of a user, or nothing; `locks` when there is a wait now.
    pub(crate) fn wrong_password(&self, user: Option<&str>, from: Option<IpAddr>, locks: bool) {
        let over = match (user, locks) {
            (None, _) => "the console".to_owned(),
            (Some(user), false) => format!("the console as {user}"),
            (Some(user), true) => format!("the console as {user}, which waits now"),
        };
        let what = json!({ "over": "the console", "user": user, "locked": locks });
        self.failed(&over, from, what);
    }

    /// A link to sign in was wrong, used or expired.
    pub(crate) fn wrong_link(&self, from: Option<IpAddr>) {
        self.failed("a link", from, json!({ "over": "the console", "link": true }));
    }

    fn failed(&self, over: &str, source_ip: Option<IpAddr>, what: Value) {
        self.tell(Attempt {
            kind: Kind::Failed,
            by: By { name: NOBODY.to_owned(), source_ip, ..By::system((self.now_ms)()) },
            subject: PLATFORM.to_owned(),
            app: None,
            team: None,
            call: over.to_owned(),
            what,
        });
    }

    /// Somebody who is known was refused. Those of the thing's team see it; what was hidden from
    /// the caller is told to administrators alone, or the caller's team would learn of it.
    pub(crate) fn denied(&self, denial: &Denial<'_>) {
        let Denial { caller, verb, resource, app, gives, call, hidden } = denial;
        let (subject, team) = match (app, resource) {
            (_, Resource::App { team, app }) => (app.to_string(), *team),
            (Some(app), Resource::OfTeam(team)) => (app.to_string(), *team),
            (None, Resource::OfTeam(team)) => (team.to_string(), *team),
            (_, Resource::Platform) => (PLATFORM.to_owned(), caller.team),
        };
        self.tell(Attempt {
            kind: Kind::Denied,
            by: By::caller(caller, (self.now_ms)()),
            subject,
            app: *app,
            team: (!hidden).then_some(team),
            call: (*call).to_owned(),
            what: json!({
                "verb": verb,
                "call": call,
                "role": resource.role_of(caller).or(caller.highest_role()),
                "needs": verb.least_role(),
                "gives": gives,
                "hidden": hidden,
            }),
        });
    }

    fn tell(&self, attempt: Attempt) {
        if self.queue.try_send(Message::Attempt(Box::new(attempt))).is_err() {
            self.unheard.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what was counted and not written yet, for a bounded time.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let close = async {
            if self.queue.send(Message::Close(done)).await.is_ok() {
                let _ = closed.await;
            }
        };
        if tokio::time::timeout(CLOSE_MAX, close).await.is_err() {
            tracing::warn!("refused calls of the last minutes were not written in time");
        }
    }
}

async fn write(
    mut heard: mpsc::Receiver<Message>,
    unheard: Arc<AtomicU64>,
    store: Store,
    now_ms: fn() -> i64,
) {
    let mut ledger = Ledger::default();
    loop {
        let due = ledger.next_due();
        let due = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            message = heard.recv() => match message {
                Some(message) => Some(message),
                None => return,
            },
            () = due => None,
        };
        ledger.unheard(unheard.swap(0, Ordering::Relaxed), Instant::now());
        let (rows, done) = match message {
            Some(Message::Attempt(attempt)) => {
                (ledger.note(*attempt, Instant::now()).into_iter().collect(), None)
            }
            Some(Message::Close(done)) => (ledger.rest(now_ms()), Some(done)),
            None => (ledger.due(Instant::now(), now_ms()), None),
        };
        for row in rows {
            put(&store, row).await;
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}

async fn put(store: &Store, row: Refused) {
    if let Err(error) = store.refused(row).await {
        tracing::warn!("a refused call was not written: {error}");
    }
}
