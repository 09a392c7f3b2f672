//! Detection: every buildpack looks at the source, all at once, and the first group whose plan
//! resolves builds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use berth_extensions::Limits;
use berth_extensions::buildpack::{BuildpackError, BuildpackHost, Context, Target, Verdict};
use berth_model::text::printable;

use crate::host::Host;
use crate::installed::Installed;
use crate::manifest::{BerthToml, ProjectToml};
use crate::plan::{self, Chosen, Detected, Plan, Require};
use crate::session::Session;
use crate::{BuildError, order};

/// Asks every buildpack and resolves the groups.
pub(crate) async fn detect(
    session: &Arc<Session>,
    installed: &Installed,
    berth: &BerthToml,
    project: &ProjectToml,
) -> Result<Vec<Chosen>, BuildError> {
    let begun = Instant::now();
    let groups = order::groups(berth, project, &installed.order, &installed.ids())?;
    let mut asked = tokio::task::JoinSet::new();
    for loaded in &installed.buildpacks {
        let (loaded, context) = (loaded.clone(), context(session, &loaded.id));
        let host: Arc<dyn BuildpackHost> = Arc::new(Host {
            session: Arc::clone(session),
            buildpack: loaded.id.clone(),
            detecting: true,
        });
        asked.spawn(async move {
            let verdict = loaded.component.detect(&context, host, Limits::BUILDPACK_DETECT).await;
            (loaded.id, verdict)
        });
    }
    let broken = installed.broken.iter().cloned();
    let mut detected: BTreeMap<String, Detected> =
        broken.map(|(id, reason)| (id, Detected::Broken(reason))).collect();
    loop {
        let answered = tokio::select! {
            answered = asked.join_next() => answered,
            () = session.cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let Some(answered) = answered else { break };
        let (id, verdict) = answered.map_err(BuildError::platform("ask a buildpack"))?;
        detected.insert(id.clone(), judge(&id, verdict)?);
    }
    let explicit = berth.buildpacks.is_some() || project.buildpacks.is_some();
    let chosen = plan::resolve(&groups, &detected)
        .and_then(|chosen| order::with_procfile(chosen, &detected))
        .map_err(|no_match| order::explain(no_match, explicit))?;
    for said in detected.values() {
        if let Detected::Broken(reason) = said {
            session.log.warning(&format!("Passed over: {reason}"));
        }
    }
    let state = &mut *session.state.lock().await;
    Session::took(state, "detection", begun.elapsed());
    state.order = chosen.iter().map(|chosen| chosen.id.clone()).collect();
    Ok(chosen)
}

fn judge(id: &str, verdict: Result<Verdict, BuildpackError>) -> Result<Detected, BuildError> {
    Ok(match verdict {
        Ok(Verdict::Pass(plans)) => Detected::Pass(plans.into_iter().map(plan_of).collect()),
        Ok(Verdict::Fail(reason)) => Detected::Fail(one_line(&reason)),
        Err(BuildpackError::Failure(failure)) => Detected::Error(failure.message),
        // It says nothing about the source, so others are tried.
        Err(BuildpackError::Guest(error)) => {
            Detected::Broken(format!("the buildpack '{id}' broke: {error}"))
        }
        Err(BuildpackError::Host(why)) => {
            return Err(BuildError::platform("read the source for a buildpack")(why));
        }
    })
}

fn plan_of(plan: berth_extensions::buildpack::Plan) -> Plan {
    let requires = plan
        .requires
        .into_iter()
        .map(|require| Require { name: require.name, metadata: require.metadata });
    Plan { provides: plan.provides, requires: requires.collect() }
}

fn one_line(text: &str) -> String {
    printable(&text.lines().collect::<Vec<_>>().join(" "), 500)
}

/// What a buildpack is told about the build.
pub(crate) fn context(session: &Session, id: &str) -> Context {
    Context {
        buildpack_id: id.to_owned(),
        exec_env: "production".to_owned(),
        target: Target {
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            distro: "debian".to_owned(),
            distro_version: "12".to_owned(),
        },
        config_names: session.env.keys().cloned().collect(),
        extra: Vec::new(),
    }
}
