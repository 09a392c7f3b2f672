//! The end of a build: layers are sealed, and everything becomes the room's output.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use berth_container::Part;
use berth_extensions::buildpack::{Output, Process as Proposal};
use berth_model::{BuildOutput, LayerRef, Process, ProcessName, Runtime};

use crate::builder::{Files, steering};
use crate::container::Sealed;
use crate::environment::{self, Effect, Phase, TOPS};
use crate::installed::Loaded;
use crate::manifest::{Proposed, merge};
use crate::request::{Outcome, stack_digest};
use crate::session::{Contents, Layer, Session, State, layer_path, layer_ref};
use crate::state::{Restored, State as Stored};
use crate::{BuildError, component, tree};

const LABEL_BYTES_MAX: usize = 64 << 10;

/// Layers that were sealed before the end, by buildpack and name.
pub(crate) type Ready = BTreeMap<(String, String), Restored>;

/// Seals what is to be kept and puts the output together.
pub(crate) async fn finish(
    session: Arc<Session>,
    buildpacks: &[Loaded],
    outputs: Vec<(String, Output)>,
    files: Files,
) -> Result<Outcome, BuildError> {
    let begun = Instant::now();
    let state = &mut *session.state.lock().await;
    let component =
        outputs.iter().rev().find_map(|(id, output)| Some((id, output.component.as_deref()?)));
    let mut ready = Ready::new();
    let runtime = match component {
        Some((id, path)) => {
            session.deliver(state).await?;
            component::store(&session, state, &mut ready, id, path).await?
        }
        None => Runtime::Container,
    };
    let proposed =
        outputs.iter().map(|(id, output)| propose(id, output)).collect::<Result<Vec<_>, _>>()?;
    let manifest = merge(&proposed, &files.berth, &files.app, runtime)?;
    if component.is_none() && manifest.processes.is_empty() {
        session.log.warning("Nothing says what to run: no buildpack found a process to start. Add a Procfile with a line such as 'web: COMMAND'.");
    }
    if component.is_some() {
        // The image of a Wasm app has no files; its layers serve the next build alone.
        state.layers.values_mut().for_each(|layer| layer.kinds.launch = false);
    }
    let sealed = seal(&session, state, ready).await?;

    let mut env = environment::of_image();
    let mut layers =
        if component.is_some() { Vec::new() } else { session.stack().await?.run.clone() };
    for (key, restored) in &sealed {
        let Some(layer) = state.layers.get(key).filter(|layer| layer.kinds.launch) else {
            continue;
        };
        let path = layer_path(&key.0, &key.1);
        environment::apply(
            &mut env,
            Phase::Launch,
            [Effect { path: &path, tops: &restored.tops, changes: &layer.changes }],
        );
        layers.push(layer_ref(&key.0, &key.1, restored.diff_id, restored.bytes));
    }
    if component.is_none() && outputs.iter().all(|(_, output)| output.workspace) {
        let sealed = workspace(&session, state).await?;
        layers.push(LayerRef {
            diff_id: sealed.diff_id,
            bytes: sealed.bytes,
            name: "app".to_owned(),
        });
    }
    Session::took(state, "layers", begun.elapsed());

    let request = &session.request;
    let stack = stack_digest(session.stack.get());
    let mut stored = Stored::new(stack, steering(&session.env));
    for ((buildpack, name), restored) in sealed {
        let cached = state
            .layers
            .get(&(buildpack.clone(), name.clone()))
            .is_some_and(|layer| layer.kinds.cache);
        if let Some(loaded) =
            buildpacks.iter().find(|loaded| loaded.id == buildpack).filter(|_| cached)
        {
            stored.add(&buildpack, loaded.digest, &name, restored);
        }
    }
    if !manifest.processes.is_empty() {
        let names: Vec<&str> = manifest.processes.keys().map(ProcessName::as_str).collect();
        session.log.body(&format!("Process types: {}", names.join(", ")));
    }
    let labels = labels(&session, buildpacks, &outputs, &manifest)?;
    let output =
        BuildOutput { layers, manifest, env, labels, created_at_s: request.source.committed_at_s };
    Ok(Outcome {
        output,
        restored: stored
            .to_json()
            .map_err(BuildError::platform("write down the layers for the next build"))?,
        wishes: files.app.env,
        times: std::mem::take(&mut state.times),
        container_started: state.container.is_some(),
    })
}

/// Every layer for the image or the next build, in the order of buildpacks and names.
async fn seal(
    session: &Arc<Session>,
    state: &mut State,
    mut ready: Ready,
) -> Result<Vec<((String, String), Restored)>, BuildError> {
    session.deliver(state).await?;
    let order = state.order.clone();
    let mut sealed = Vec::new();
    for id in &order {
        let mine: Vec<(String, String)> =
            state.layers.keys().filter(|(owner, _)| owner == id).cloned().collect();
        for key in mine {
            let Some(layer) =
                state.layers.get(&key).filter(|layer| layer.kinds.launch || layer.kinds.cache)
            else {
                continue;
            };
            let one = match ready.remove(&key) {
                Some(one) => one,
                None => seal_layer(session, state, &key, layer).await?,
            };
            sealed.push((key, one));
        }
    }
    Ok(sealed)
}

/// One layer, wherever its contents are.
pub(crate) async fn seal_layer(
    session: &Arc<Session>,
    state: &State,
    key: &(String, String),
    layer: &Layer,
) -> Result<Restored, BuildError> {
    let path = layer_path(&key.0, &key.1);
    let prefix = format!("{}/", path.trim_start_matches('/'));
    let wanted: Vec<String> = TOPS.iter().map(|top| format!("{prefix}{top}/")).collect();
    let described = |sealed: Sealed| {
        let tops = sealed
            .tops
            .iter()
            .filter_map(|top| Some(top.strip_prefix(&prefix)?.trim_end_matches('/').to_owned()));
        let mut tops: Vec<String> = tops.collect();
        tops.sort();
        Restored {
            diff_id: sealed.diff_id,
            bytes: sealed.bytes,
            tops,
            metadata: layer.metadata.clone(),
            changes: layer.changes.clone(),
        }
    };
    match (&layer.contents, &layer.restored, &state.container) {
        (Contents::Kept, Some(restored), _) => Ok(Restored {
            metadata: layer.metadata.clone(),
            changes: layer.changes.clone(),
            ..restored.clone()
        }),
        (Contents::Written(files), _, _) => {
            let (blobs, files) = (session.blobs.clone(), files.clone());
            let sealing = tokio::task::spawn_blocking(move || {
                tree::seal_files(&path, &files, wanted, &blobs)
            })
            .await;
            sealing.map_err(BuildError::platform("write a layer"))?.map(described)
        }
        (_, _, Some(container)) => {
            let name = |text: &str| {
                text.parse::<ProcessName>().map_err(BuildError::platform("name a layer"))
            };
            let part = Part::Layer { buildpack: name(&key.0)?, layer: name(&key.1)? };
            container.seal(part, &session.blobs, None, wanted, &session.cancel).await.map(described)
        }
        (_, _, None) => Err(BuildError::platform("find the contents of a layer")(path)),
    }
}

/// The app's tree; out of the container only where a step changed it.
async fn workspace(session: &Arc<Session>, state: &mut State) -> Result<Sealed, BuildError> {
    let mtime_s = u64::try_from(session.request.source.committed_at_s).unwrap_or(0);
    if state.workspace_in.filled
        && let Some(container) = &state.container
    {
        return container
            .seal(Part::Workspace, &session.blobs, Some(mtime_s), Vec::new(), &session.cancel)
            .await;
    }
    let (archive, blobs, changes) =
        (session.archive.clone(), session.blobs.clone(), std::mem::take(&mut state.workspace));
    let sealing =
        tokio::task::spawn_blocking(move || changes.seal(&archive, &blobs, mtime_s)).await;
    sealing.map_err(BuildError::platform("write the app's layer"))?
}

fn propose(id: &str, output: &Output) -> Result<Proposed, BuildError> {
    let wrong = |problem: String| BuildError::Guest { id: id.to_owned(), problem };
    let process = |proposal: &Proposal| {
        let name: ProcessName =
            proposal.name.parse().map_err(|error| wrong(format!("proposed a process: {error}")))?;
        if proposal.command.is_empty() || proposal.command.iter().any(|word| word.contains('\0')) {
            return Err(wrong(format!("proposed the process '{name}' without a valid command")));
        }
        let working_dir = proposal.working_dir.clone().unwrap_or_else(|| "/workspace".to_owned());
        Ok((name, Process { command: proposal.command.clone(), working_dir, check: None }))
    };
    let processes = output.processes.iter().map(process).collect::<Result<_, _>>()?;
    Ok(Proposed { processes, release: output.release.clone() })
}

/// Labels that tools for buildpacks read, and what the buildpacks add; every value is reproducible.
fn labels(
    session: &Session,
    buildpacks: &[Loaded],
    outputs: &[(String, Output)],
    manifest: &berth_model::Manifest,
) -> Result<BTreeMap<String, String>, BuildError> {
    let mut labels = BTreeMap::new();
    for (id, output) in outputs {
        for (name, value) in &output.labels {
            let ours = name.starts_with("berth.") || name.starts_with("io.buildpacks.");
            if name.is_empty() || ours || name.len() + value.len() > LABEL_BYTES_MAX {
                let problem = format!(
                    "set the label '{}', which is not a buildpack's to set",
                    name.escape_default()
                );
                return Err(BuildError::Guest { id: id.clone(), problem });
            }
            labels.insert(name.clone(), value.clone());
        }
    }
    let used =
        outputs.iter().filter_map(|(id, _)| buildpacks.iter().find(|loaded| loaded.id == *id));
    let used: Vec<_> = used
        .map(|loaded| serde_json::json!({ "id": loaded.id, "version": loaded.digest.short() }))
        .collect();
    let processes: Vec<_> = manifest
        .processes
        .iter()
        .map(|(name, process)| serde_json::json!({ "command": process.command, "direct": true, "type": name.as_str(), "working-dir": process.working_dir }))
        .collect();
    let source = &session.request.source;
    let documents = [
        (
            "io.buildpacks.build.metadata",
            serde_json::json!({ "buildpacks": used, "processes": processes }),
        ),
        (
            "io.buildpacks.project.metadata",
            serde_json::json!({ "source": { "type": "git", "version": { "commit": source.commit } } }),
        ),
    ];
    for (name, document) in documents {
        labels.insert(name.to_owned(), canonical(&document));
    }
    labels.insert("io.buildpacks.stack.id".to_owned(), "debian-12".to_owned());
    labels.insert("org.opencontainers.image.revision".to_owned(), source.commit.clone());
    Ok(labels)
}

/// JSON with sorted keys, whatever order `serde_json` keeps its maps in.
fn canonical(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            let fields: Vec<String> = sorted
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_is_sorted_at_every_depth() {
        let value: serde_json::Value =
            serde_json::from_str(r#"{"b":[{"z":1,"a":"\""}],"a":null}"#).unwrap();
        assert_eq!(canonical(&value), r#"{"a":null,"b":[{"a":"\"","z":1}]}"#);
    }
}
