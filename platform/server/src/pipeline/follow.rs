//! What whoever waits for a deployment is told, until its release answers.

use berth_deploy::Progress;
use berth_model::{App, DeploymentId, DeploymentState};

use super::Pipeline;
use super::running::Tokens;
use crate::build_log::BuildLog;

impl Pipeline {
    /// Waits for the switch, and says what happens until then.
    pub(super) async fn watch(
        &self,
        app: &App,
        deployment: DeploymentId,
        number: u64,
        log: &BuildLog,
        tokens: &Tokens,
    ) -> Result<(), String> {
        use berth_build::Log as _;
        let mut follower = self.deploys.follow(deployment);
        loop {
            let next = tokio::select! {
                next = follower.next() => next,
                () = tokens.destroyed.cancelled() => {
                    log.error("The app was destroyed");
                    return Err("the app was destroyed".to_owned());
                }
            };
            match next {
                Some(Progress::Line(line)) => log.line(&line),
                Some(Progress::State(state)) if state.is_switched() => {
                    return self.deployed(app, number, log).await;
                }
                Some(Progress::State(_)) => {}
                Some(Progress::Ended { state: DeploymentState::Done, .. }) => {
                    return self.deployed(app, number, log).await;
                }
                Some(Progress::Ended { state: DeploymentState::Superseded, .. }) => {
                    log.error(&format!("v{number} was superseded by a later release"));
                    return Err("superseded by a later release".to_owned());
                }
                // The reason came as lines before.
                Some(Progress::Ended { .. }) => {
                    return Err("deploy failed; the release before it goes on".to_owned());
                }
                None => {
                    return Err(
                        "the platform stops; the deployment goes on when it is back".to_owned()
                    );
                }
            }
        }
    }

    pub(super) async fn deployed(
        &self,
        app: &App,
        number: u64,
        log: &BuildLog,
    ) -> Result<(), String> {
        use berth_build::Log as _;
        log.line(&format!("=====> Application deployed: v{number}"));
        for url in self.urls(app).await {
            log.body(&url);
        }
        Ok(())
    }
}
