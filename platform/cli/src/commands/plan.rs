//! `berth plan`: a change is planned by the server as it would be made, and not made.

use berth_api::{PlanRequest, PlanView};
use reqwest::Method;

use super::app_path;
use crate::arguments::{App, Plan};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Output;
use crate::pairs;

pub(crate) async fn run(command: Plan, client: &Client, output: &Output) -> Result<(), Failure> {
    let (app, request): (App, PlanRequest) = match command {
        Plan::Scale { counts, app } => {
            (app, PlanRequest::Scale { processes: pairs::counts(&counts)? })
        }
        Plan::ConfigSet { variables, app } => {
            let set = pairs::variables(&variables)?.into_keys().collect();
            (app, PlanRequest::Config { set, unset: Vec::new() })
        }
        Plan::Rollback { release, app } => {
            let release = release.trim_start_matches('v').parse();
            let release = release.map_err(|_| Failure::usage("releases are called v1, v2, v3"))?;
            (app, PlanRequest::Rollback { release })
        }
        Plan::Destroy(app) => (app, PlanRequest::Destroy {}),
    };
    let path = format!("{}/plan", app_path(&app, client)?);
    let plan: PlanView = client.send_json(Method::POST, &path, &request).await?;
    output.value(&plan, |plan| {
        let changes = plan.changes.iter().map(|change| format!("- {change}\n"));
        let denied = plan.denied.iter().map(|denied| format!("It would be refused: {denied}\n"));
        changes.chain(denied).collect()
    })
}
