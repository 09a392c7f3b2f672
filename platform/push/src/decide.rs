//! The decision about one push: which refs move, and whether the deploy branch's commit deploys.
//!
//! Order: lock the app, look at every ref, store what only needs storing, archive the tree, let
//! the host deliver it, move the deploy branch. The refs are compared again when they move, so
//! nothing that happened meanwhile is overwritten.

mod inspect;

use std::sync::Arc;

use berth_model::Caller;
use git2::Oid;
use tokio_util::sync::CancellationToken;

use crate::commands::{Command, Verdict, first_branch, refuse_early};
use crate::hook::Request;
use crate::repository::{RefError, Update, point_head};
use crate::{Push, PushError, PushHost, PushOutput, Pushed, Repository, source};

/// A push that is being decided.
pub(crate) struct Round<H> {
    pub(crate) push: Push<H>,
    pub(crate) caller: Caller,
    pub(crate) repository: Repository,
    pub(crate) output: PushOutput,
    /// Set when whoever pushes has gone.
    pub(crate) cancel: CancellationToken,
    /// Commits whose parents the client does not have.
    pub(crate) shallow: Vec<Oid>,
}

/// Why a ref does not move: one short line, or one that is also explained in the output.
type Refused = String;

impl<H: PushHost> Round<H> {
    /// One verdict for each command, in their order.
    pub(crate) async fn decide(&self, request: &Request) -> Vec<Verdict> {
        let limits = &self.push.inner.limits;
        let mut verdicts = refuse_early(&request.commands, limits.updates_max);
        if verdicts.iter().any(Option::is_none) {
            match self.push.inner.host.lock(&self.caller, &self.repository).await {
                Ok(lock) => {
                    self.locked(request, &mut verdicts).await;
                    drop(lock);
                }
                Err(holder) => {
                    self.output.error(&holder);
                    refuse_rest(&mut verdicts, &holder);
                }
            }
        }
        // Every command has an answer by now; an internal fault must not read as a success.
        verdicts
            .into_iter()
            .map(|verdict| verdict.unwrap_or_else(|| Verdict::refused("not decided")))
            .collect()
    }

    async fn locked(&self, request: &Request, verdicts: &mut [Option<Verdict>]) {
        let known = match self.push.inner.host.deploy_branch(&self.repository).await {
            Ok(known) => known,
            Err(error) => return self.refuse_all(verdicts, &error),
        };
        let updates = match self.look_at(request, verdicts, known.clone()).await {
            Ok(updates) => updates,
            Err(error) => return self.refuse_all(verdicts, &error),
        };
        let open: Vec<usize> = (0..verdicts.len()).filter(|at| verdicts[*at].is_none()).collect();
        let passing: Vec<&Command> = open.iter().map(|at| &request.commands[*at]).collect();
        let branch = known.clone().or_else(|| first_branch(&passing));
        let deploying = open.iter().copied().find(|at| {
            let command = &request.commands[*at];
            command.new.is_some()
                && command.branch().is_some()
                && command.branch() == branch.as_deref()
        });
        if request.atomic && verdicts.iter().any(Option::is_some) {
            return refuse_rest(verdicts, "atomic push: another ref was refused");
        }
        let stored: Vec<usize> = open.into_iter().filter(|at| Some(*at) != deploying).collect();
        if !request.atomic {
            self.store(&stored, &request.commands, &updates, verdicts).await;
        }
        if let Some(at) = deploying
            && let Some(update) = &updates[at]
        {
            let delivered = self.deploy(update, known.is_none()).await;
            verdicts[at] = Some(verdict(delivered, &request.commands[at], update));
        }
        if request.atomic {
            if verdicts.iter().any(|v| matches!(v, Some(Verdict::Refused(_)))) {
                return refuse_rest(verdicts, "atomic push: another ref was refused");
            }
            self.store(&stored, &request.commands, &updates, verdicts).await;
        }
        if deploying.is_none() {
            self.explain_storing(&stored, &request.commands, verdicts, branch.as_deref());
        }
    }

    /// Checks every open command against the repository.
    async fn look_at(
        &self,
        request: &Request,
        verdicts: &mut [Option<Verdict>],
        deploy_branch: Option<String>,
    ) -> Result<Vec<Option<Update>>, Refused> {
        let open: Vec<Option<Command>> = verdicts
            .iter()
            .zip(&request.commands)
            .map(|(verdict, command)| verdict.is_none().then(|| command.clone()))
            .collect();
        let shallow = self.shallow.clone();
        let limits = self.push.inner.limits;
        let found = self
            .blocking(move |repository, app| {
                inspect::inspect(repository, &open, &shallow, deploy_branch.as_deref(), &limits)
                    .map_err(|source| PushError::Git { action: "read the objects", app, source })
            })
            .await?;
        if let Some(boundary) = found.lacks_history {
            let at = &boundary.to_string()[..12];
            self.output.error(&format!(
                "Your clone is shallow: it has no history before {at}, and neither has Berth.\n\
                 Run 'git fetch --unshallow' and push again."
            ));
            refuse_rest(verdicts, "shallow clone: run 'git fetch --unshallow' and push again");
        }
        let mut updates = Vec::with_capacity(verdicts.len());
        for (verdict, looked_at) in verdicts.iter_mut().zip(found.updates) {
            updates.push(match looked_at {
                Some(Ok(update)) => Some(update),
                Some(Err(reason)) => {
                    verdict.get_or_insert(Verdict::Refused(reason));
                    None
                }
                None => None,
            });
        }
        Ok(updates)
    }

    /// Moves refs that nothing is built from.
    async fn store(
        &self,
        which: &[usize],
        commands: &[Command],
        updates: &[Option<Update>],
        verdicts: &mut [Option<Verdict>],
    ) {
        for at in which.iter().copied() {
            if let Some(update) = &updates[at] {
                let moved = self.apply(update.clone()).await;
                verdicts[at] = Some(verdict(moved, &commands[at], update));
            }
        }
    }

    /// Archives, delivers, moves the ref.
    async fn deploy(&self, update: &Update, first: bool) -> Result<(), Refused> {
        let branch = update.name.trim_start_matches("refs/heads/");
        let Some(commit) = update.new else { return Err("there is nothing to deploy".to_owned()) };
        let inner = &self.push.inner;
        if first {
            inner.host.set_deploy_branch(&self.caller, &self.repository, branch).await?;
            self.output.heading(&format!("Set {branch} as deploy-branch"));
        }
        self.head(&update.name).await?;
        let app = self.repository.app;
        let (blobs, limits, cancel) = (inner.blobs.clone(), inner.limits, self.cancel.clone());
        let taken = self
            .blocking(move |repository, _| {
                Ok(source::take(repository, app, commit, &blobs, &limits, &cancel))
            })
            .await?;
        let source = taken.map_err(|error| {
            self.output.error(&error.to_string());
            tracing::info!(%app, error = &error as &dyn std::error::Error, "a push was refused");
            error.reason().to_owned()
        })?;
        let pushed = Pushed {
            source,
            ref_name: update.name.clone(),
            old: update.old.map(|old| old.to_string()),
            new: commit.to_string(),
        };
        let (output, cancel) = (self.output.clone(), self.cancel.clone());
        inner.host.deliver(&self.caller, &self.repository, pushed, output, cancel).await?;
        self.apply(update.clone()).await.map_err(|error| format!("deployed, but {error}"))
    }

    /// Lets `HEAD` name the deploy branch, so that a clone checks it out.
    async fn head(&self, name: &str) -> Result<(), Refused> {
        let name = name.to_owned();
        self.blocking(move |repository, app| {
            point_head(repository, &name).map_err(|source| PushError::Git {
                action: "set HEAD",
                app,
                source,
            })
        })
        .await
    }

    async fn apply(&self, update: Update) -> Result<(), Refused> {
        let moved = self.blocking(move |repository, _| Ok(update.apply(repository))).await?;
        moved.map_err(|error| {
            if matches!(error, RefError::Git(_) | RefError::Io(_)) {
                let app = self.repository.app;
                tracing::error!(%app, error = &error as &dyn std::error::Error, "a ref stays");
            }
            error.to_string()
        })
    }

    /// Runs something on the repository on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&git2::Repository, berth_model::AppId) -> Result<T, PushError>
        + Send
        + 'static,
    ) -> Result<T, Refused> {
        let inner = Arc::clone(&self.push.inner);
        let app = self.repository.app;
        let done = tokio::task::spawn_blocking(move || {
            let repository = inner.repositories.git(app)?;
            work(&repository, app)
        });
        let error: Box<dyn std::error::Error> = match done.await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.into(),
            Err(panicked) => panicked.into(),
        };
        tracing::error!(%app, error, "the repository cannot be used");
        Err("the repository cannot be used; the platform's log says why".to_owned())
    }

    fn refuse_all(&self, verdicts: &mut [Option<Verdict>], reason: &str) {
        self.output.error(reason);
        refuse_rest(verdicts, reason);
    }

    /// Says what happened to a push that deployed nothing, in the words Dokku's users know.
    fn explain_storing(
        &self,
        stored: &[usize],
        commands: &[Command],
        verdicts: &[Option<Verdict>],
        deploy_branch: Option<&str>,
    ) {
        let kept = stored.iter().filter(|at| {
            matches!(verdicts[**at], Some(Verdict::Moved(_))) && commands[**at].new.is_some()
        });
        let Some(command) = kept.map(|at| &commands[*at]).next() else { return };
        let branch = deploy_branch.unwrap_or("main");
        let (pushed, advice) = match (command.branch(), command.tag()) {
            (Some(pushed), _) => {
                let text = format!("WARNING: deploy did not complete, you must push to {branch}.");
                self.output.heading(&text);
                (pushed, "for example, try")
            }
            (None, tag) => {
                let tag = tag.unwrap_or_default();
                self.output.heading(&format!("Stored the tag {tag}, which deploys nothing."));
                (tag, "to deploy it, try")
            }
        };
        self.output.heading(&format!("{advice} 'git push <remote> {pushed}:{branch}'"));
    }
}

fn verdict(moved: Result<(), Refused>, command: &Command, update: &Update) -> Verdict {
    match moved {
        Ok(()) => Verdict::Moved(update.new.filter(|new| Some(*new) != command.new)),
        Err(reason) => Verdict::Refused(reason),
    }
}

fn refuse_rest(verdicts: &mut [Option<Verdict>], reason: &str) {
    for verdict in verdicts.iter_mut() {
        verdict.get_or_insert_with(|| Verdict::refused(reason));
    }
}
