//! What this room asks of the server around it: who is there, what may they do, and do it.

use std::future::Future;
use std::net::IpAddr;

use berth_model::{AppId, AppName, Caller, Source};
use tokio_util::sync::CancellationToken;

use crate::PushOutput;

/// What a client wants of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// `git push`.
    Receive,
    /// `git fetch`, `git clone`.
    Upload,
}

impl Service {
    /// The name in git's protocols.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "git-receive-pack",
            Self::Upload => "git-upload-pack",
        }
    }
}

/// A public key whose owner has proved to hold the private one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    /// `SHA256:` and base64 without padding, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub openssh: String,
}

/// An app's repository that a caller may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Whose it is.
    pub app: AppId,
    /// Its name, for messages.
    pub name: AppName,
}

/// Why a caller may not use a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For people: what was refused, on what, what to do.
    pub message: String,
    /// The answer is the one for an app that does not exist.
    pub hidden: bool,
}

/// A commit that arrived on the deploy branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Its tree, archived.
    pub source: Source,
    /// `refs/heads/…`.
    pub ref_name: String,
    /// The commit that the ref names now, if it exists.
    pub old: Option<String>,
    /// The commit that the ref is to name.
    pub new: String,
}

/// The server, as this room sees it.
///
/// A text that a method returns as an error is shown to whoever pushes: it says what failed and
/// what to do, and holds no secret.
pub trait PushHost: Send + Sync + 'static {
    /// Held while a push of an app is under way; dropping it lets the next one in.
    type Lock: Send + 'static;

    /// Whose token this is.
    fn caller_of_token(
        &self,
        token: &str,
        from: Option<IpAddr>,
    ) -> impl Future<Output = Option<Caller>> + Send;

    /// Whose key this is.
    fn caller_of_key(
        &self,
        key: &SshKey,
        from: Option<IpAddr>,
    ) -> impl Future<Output = Option<Caller>> + Send;

    /// A client is gone that proved to have this key and no other that is known.
    fn unknown_key(&self, key: &SshKey, from: Option<IpAddr>) {
        let _ = (key, from);
    }

    /// Authorises and finds the app called `name` (as the client wrote it, without a final
    /// `.git`); a first push creates it.
    fn open(
        &self,
        caller: &Caller,
        service: Service,
        name: &str,
    ) -> impl Future<Output = Result<Repository, Refusal>> + Send;

    /// Takes the app's lock at once or says in one line who holds it.
    fn lock(
        &self,
        caller: &Caller,
        repository: &Repository,
    ) -> impl Future<Output = Result<Self::Lock, String>> + Send;

    /// The branch whose pushes deploy, if one was chosen yet.
    fn deploy_branch(
        &self,
        repository: &Repository,
    ) -> impl Future<Output = Result<Option<String>, String>> + Send;

    /// Chooses the branch whose pushes deploy.
    fn set_deploy_branch(
        &self,
        caller: &Caller,
        repository: &Repository,
        branch: &str,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Builds and deploys. `Ok` means that the switch happened and the ref may move.
    ///
    /// `cancel` is set when whoever pushes goes away; it has no effect once the release exists.
    /// The error is one short line, git prints it beside the ref; details belong to `output`.
    fn deliver(
        &self,
        caller: &Caller,
        repository: &Repository,
        pushed: Pushed,
        output: PushOutput,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<(), String>> + Send;
}
