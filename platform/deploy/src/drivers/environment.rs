//! The environment and command of what is started.

use std::collections::BTreeMap;

use berth_container::Payload;

use super::Order;
use super::embedded::port;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const HOME: &str = "/workspace";

/// The environment, from the weakest to the strongest: defaults, the image, the configuration,
/// what the platform says.
pub(crate) fn environment(order: Order<'_>) -> Vec<(String, String)> {
    let Order { record, app, release, launch, .. } = order;
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOME".to_owned(), HOME.to_owned()),
    ]);
    env.extend(launch.image.env.clone());
    env.extend(launch.config.iter().cloned());
    env.extend(
        [
            ("PORT", port(app).to_string()),
            ("BERTH_APP", app.name.to_string()),
            ("BERTH_PROCESS", record.label()),
            ("BERTH_RELEASE", format!("v{}", release.number)),
            ("BERTH_COMMIT", release.commit.clone()),
            ("GIT_REV", release.commit.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    env.into_iter().collect()
}

/// What runs in the container: `argv` with the release's environment, and `extra` above it.
pub(crate) fn payload(
    order: Order<'_>,
    argv: Vec<String>,
    working_dir: &str,
    extra: &[(String, String)],
) -> Payload {
    let mut env: BTreeMap<_, _> = environment(order).into_iter().collect();
    env.extend(extra.iter().cloned());
    Payload { argv, env: env.into_iter().collect(), working_dir: working_dir.to_owned() }
}
