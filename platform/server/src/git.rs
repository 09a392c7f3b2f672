//! What the git room asks of the platform: who is there, which app is meant, build and deploy it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use berth_model::plan::Change;
use berth_model::principal::{Decision, Resource, Verb, authorize};
use berth_model::{AppId, AppName, Caller};
use berth_push::{PushHost, PushOutput, Pushed, Refusal, Repository, Service, SshKey};
use berth_store::By;
use tokio_util::sync::CancellationToken;

use crate::attempts::{Attempts, Denial};
use crate::clock::now_ms;
use crate::pipeline::Pipeline;

/// The platform, as the git room sees it.
#[derive(Clone)]
pub struct GitHost {
    pub(crate) pipeline: Pipeline,
    pub(crate) locks: Locks,
    pub(crate) attempts: Attempts,
    /// A first push creates the app.
    pub(crate) create_apps: bool,
}

/// Who pushes or builds which app now.
#[derive(Clone, Default)]
pub struct Locks(Arc<Mutex<HashMap<AppId, String>>>);

/// An app's lock; dropping it lets the next one in.
pub struct Lock {
    locks: Locks,
    app: AppId,
}

impl Locks {
    /// Takes the lock, or says who holds it.
    ///
    /// # Errors
    /// One line for whoever pushes.
    pub fn take(&self, app: AppId, name: &AppName, holder: &str) -> Result<Lock, String> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = held.get(&app) {
            return Err(format!(
                "{name} is being deployed by {other}; wait for it, or cancel it with `berth builds cancel`"
            ));
        }
        held.insert(app, holder.to_owned());
        Ok(Lock { locks: self.clone(), app })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locks.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.app);
    }
}

fn hidden(name: &str) -> Refusal {
    let name: String = name.chars().take(80).flat_map(char::escape_default).collect();
    Refusal { message: format!("there is no app '{name}'"), hidden: true }
}

fn visible(message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), hidden: false }
}

impl GitHost {
    fn refused(
        &self,
        caller: &Caller,
        verb: Verb,
        resource: &Resource,
        app: Option<AppId>,
        service: Service,
        hidden: bool,
    ) {
        let call = if service == Service::Receive { "git push" } else { "git fetch" };
        self.attempts.denied(&Denial { caller, verb, resource, app, gives: None, call, hidden });
    }

    async fn existing(
        &self,
        caller: &Caller,
        service: Service,
        name: &AppName,
    ) -> Result<Option<Repository>, Refusal> {
        let store = &self.pipeline.store;
        let found = store.app_by_name(name).await.map_err(|error| visible(error.to_string()))?;
        let Some(app) = found else { return Ok(None) };
        let verb = match service {
            Service::Receive => Verb::Deploy,
            Service::Upload => Verb::Fetch,
        };
        let resource = Resource::from(&app);
        let decision = authorize(caller, verb, &resource);
        if decision != Decision::Allowed {
            let hidden = decision == Decision::Hidden;
            self.refused(caller, verb, &resource, Some(app.id), service, hidden);
        }
        match decision {
            Decision::Allowed if app.settings.addon.is_some() => {
                Err(visible(berth_model::plan::Refusal::IsAddon(name.clone()).to_string()))
            }
            Decision::Allowed => Ok(Some(Repository { app: app.id, name: app.name })),
            Decision::Denied => {
                let does = if service == Service::Receive { "push to" } else { "fetch from" };
                let why = match caller.scope.has(verb) {
                    true => format!("the role {} is needed", verb.least_role().as_str()),
                    false => format!("the token has the scope {}", caller.scope.as_str()),
                };
                Err(visible(format!("{} may not {does} {name}: {why}", caller.name)))
            }
            Decision::Hidden => Err(hidden(name.as_str())),
        }
    }

    async fn create(&self, caller: &Caller, name: AppName) -> Result<Repository, Refusal> {
        if !self.create_apps {
            return Err(visible(format!(
                "there is no app '{name}'; create it with `berth apps create {name}`"
            )));
        }
        let own = Resource::OfTeam(caller.team);
        if authorize(caller, Verb::CreateApp, &own) != Decision::Allowed {
            self.refused(caller, Verb::CreateApp, &own, None, Service::Receive, false);
            return Err(hidden(name.as_str()));
        }
        let change = Change::Create { name: name.clone(), team: caller.team };
        let by = By::caller(caller, now_ms());
        self.pipeline.judge(None, &change, &by).await.map_err(visible)?;
        let made = self.pipeline.store.change(None, &change, None, &by).await;
        match made {
            Ok(made) => {
                self.pipeline.changed(made.app.id);
                Ok(Repository { app: made.app.id, name: made.app.name })
            }
            Err(error) => Err(visible(error.to_string())),
        }
    }
}

impl PushHost for GitHost {
    type Lock = Lock;

    async fn caller_of_token(&self, token: &str, from: Option<IpAddr>) -> Option<Caller> {
        let found = self.pipeline.store.caller_by_token(token, from, now_ms()).await;
        if matches!(found, Ok(None)) {
            self.attempts.wrong_token("git", from);
        }
        found.ok().flatten()
    }

    async fn caller_of_key(&self, key: &SshKey, from: Option<IpAddr>) -> Option<Caller> {
        self.pipeline.store.caller_by_key(&key.fingerprint, from).await.ok().flatten()
    }

    fn unknown_key(&self, key: &SshKey, from: Option<IpAddr>) {
        self.attempts.wrong_key(&key.fingerprint, from);
    }

    async fn open(
        &self,
        caller: &Caller,
        service: Service,
        name: &str,
    ) -> Result<Repository, Refusal> {
        let parsed: AppName = match name.parse() {
            Ok(parsed) => parsed,
            Err(_) if service == Service::Upload => return Err(hidden(name)),
            Err(error) => return Err(visible(format!("{error}"))),
        };
        let found = self.existing(caller, service, &parsed).await?;
        // Before anything is sent.
        if service == Service::Receive {
            self.pipeline.disk.room().map_err(visible)?;
        }
        match found {
            Some(repository) => Ok(repository),
            None if service == Service::Upload => Err(hidden(name)),
            None => self.create(caller, parsed).await,
        }
    }

    async fn lock(&self, caller: &Caller, repository: &Repository) -> Result<Lock, String> {
        self.locks.take(repository.app, &repository.name, &caller.name)
    }

    async fn deploy_branch(&self, repository: &Repository) -> Result<Option<String>, String> {
        let app =
            self.pipeline.store.app(repository.app).await.map_err(|error| error.to_string())?;
        app.map(|app| app.settings.deploy_branch)
            .ok_or_else(|| format!("{} was destroyed", repository.name))
    }

    async fn set_deploy_branch(
        &self,
        caller: &Caller,
        repository: &Repository,
        branch: &str,
    ) -> Result<(), String> {
        let change = Change::SetDeployBranch(branch.to_owned());
        let by = By::caller(caller, now_ms());
        let app = self.pipeline.store.app(repository.app).await;
        let app = app.map_err(|error| error.to_string())?;
        self.pipeline.judge(app.as_ref(), &change, &by).await?;
        let done = self.pipeline.store.change(Some(repository.app), &change, None, &by).await;
        done.map(drop).map_err(|error| error.to_string())
    }

    async fn deliver(
        &self,
        caller: &Caller,
        repository: &Repository,
        pushed: Pushed,
        output: PushOutput,
        cancel: CancellationToken,
    ) -> Result<(), String> {
        self.pipeline.deliver(caller, repository.app, pushed, output, cancel).await
    }
}
