//! Removes what berthd does not name any more: trees, logs, disks, caches. What runs is never
//! touched, named or not.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;

use berth_container::{FailureCode, Live, Reply, Role};
use berth_model::{AppId, InstanceId};

use crate::context::Context;
use crate::disk;
use crate::failure::{Because, Failure};
use crate::instances;
use crate::server::Answer;

/// Bytes of the list of what is live.
const LIVE_BYTES_MAX: u64 = 64 << 20;

pub(crate) fn handle(context: &Context, descriptors: Vec<OwnedFd>) -> Answer {
    let [list] = <[OwnedFd; 1]>::try_from(descriptors)
        .map_err(|_| Failure::refused("gc takes one descriptor: the list of what is live"))?;
    let live = read(list)?;
    let named: BTreeSet<InstanceId> = live.instances.iter().copied().collect();
    for known in context.instances.all() {
        if known.is_gone() && !named.contains(&known.spec.instance) {
            instances::forget(context, known.spec.instance)?;
        }
    }
    context.instances.keep_addresses(|instance| named.contains(&instance))?;
    sweep_logs(context, &named)?;
    instances::sweep_leaves(context);
    instances::sweep_disks(context);
    sweep_caches(context, &live.apps.iter().copied().collect())?;
    let used = context.instances.all().into_iter().flat_map(|known| known.spec.layers.clone());
    let layers: BTreeSet<_> = live.layers.iter().copied().chain(used).collect();
    context.trees.collect(context, &layers)?;
    Ok((Reply::Done {}, Vec::new()))
}

fn read(list: OwnedFd) -> Result<Live, Failure> {
    let mut text = Vec::new();
    File::from(list)
        .take(LIVE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .because(|| "reading the list of what is live")?;
    if text.len() as u64 > LIVE_BYTES_MAX {
        let message = format!("the list of what is live is over {LIVE_BYTES_MAX} bytes");
        return Err(Failure::new(FailureCode::Limit, message));
    }
    serde_json::from_slice(&text)
        .map_err(|error| Failure::refused(format!("the list of what is live: {error}")))
}

fn sweep_logs(context: &Context, named: &BTreeSet<InstanceId>) -> Result<(), Failure> {
    let folder = context.data.join("logs");
    let entries = fs::read_dir(&folder).because(|| format!("listing {}", folder.display()))?;
    for entry in entries.flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok());
        let kept = id.is_some_and(|id| named.contains(&id) || context.instances.get(id).is_ok());
        if !kept {
            instances::remove_folder(&entry.path())?;
        }
    }
    Ok(())
}

fn sweep_caches(context: &Context, apps: &BTreeSet<AppId>) -> Result<(), Failure> {
    for entry in fs::read_dir(context.disks()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let app = name.to_str().and_then(|name| name.strip_prefix("cache-"));
        let Some(app) = app.and_then(|app| app.parse::<AppId>().ok()) else { continue };
        if !apps.contains(&app) && !builds(context, app) {
            disk::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Drops an app's named build caches.
pub(crate) fn drop_caches(context: &Context, app: AppId) -> Answer {
    if builds(context, app) {
        let message = format!("a build of {app} uses its caches; wait for its end");
        return Err(Failure::new(FailureCode::Conflict, message));
    }
    disk::remove(&context.cache_disk(app))?;
    Ok((Reply::Done {}, Vec::new()))
}

fn builds(context: &Context, app: AppId) -> bool {
    context
        .instances
        .all()
        .iter()
        .any(|known| known.spec.app == app && known.spec.role == Role::Build && !known.is_gone())
}
