//! Steps: one tool in the build container, with what it may see, reach and fill.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_extensions::buildpack::{Step, ToolOutcome};

use crate::container::{Command, Ended, Output};
use crate::environment::{self, Effect, Phase};
use crate::proxy::Reach;
use crate::session::{Contents, Session, State, layer_path};
use crate::tree::write_inputs;
use crate::{BuildError, host::refuse};

use berth_extensions::buildpack::HostError;

const ARGUMENTS_MAX: usize = 512;
const ARGUMENTS_BYTES_MAX: usize = 256 << 10;
const NAMES_MAX: usize = 16;
/// Standard output that is given back.
const CAPTURE_BYTES_MAX: usize = 1 << 20;
/// A step that shows nothing is mentioned when it takes longer.
const QUIET: Duration = Duration::from_millis(500);
/// The time that steps with declared inputs see: what they make is used again by builds of other
/// commits, so it must not depend on the commit's.
const EPOCH_S: i64 = 315_532_801;

impl Session {
    /// Runs a step for a buildpack.
    pub(crate) async fn run_step(
        &self,
        buildpack: &str,
        step: Step,
    ) -> Result<ToolOutcome, HostError> {
        let state = &mut *self.state.lock().await;
        let directory = self.admit(state, buildpack, &step)?;
        self.prepare(state, buildpack, &step, &directory).await.map_err(broken)?;
        let title = step
            .extra
            .iter()
            .find(|(name, _)| name == "title")
            .map_or_else(|| step.argv.join(" "), |(_, title)| title.clone());
        let title: String = title.lines().next().unwrap_or_default().chars().take(200).collect();
        if step.show {
            self.log.body(&format!("$ {title}"));
        }
        let begun = Instant::now();
        let ended = self.execute(state, buildpack, &step, directory).await.map_err(broken)?;
        let took = begun.elapsed();
        if step.show || took > QUIET {
            let what = if step.show { String::new() } else { format!("{title} ") };
            self.log.body(&format!("{what}({:.1} s)", took.as_secs_f64()));
        }
        Self::took(state, format!("{buildpack}: {title}"), took);
        let exit = ended.exit;
        if exit.oom {
            let mib = self.settings.limits.memory_mib;
            self.log.warning(&format!(
                "The step used all of the {mib} MiB of memory that a build has and was ended."
            ));
        }
        if exit.timed_out {
            let minutes = self.settings.build_s_max / 60;
            self.log.warning(&format!(
                "The build takes longer than {minutes} minutes; the step was ended."
            ));
        }
        Ok(ToolOutcome {
            exit_code: exit.code,
            oom_killed: exit.oom,
            timed_out: exit.timed_out,
            stdout: ended.stdout,
        })
    }

    /// Refuses a step that cannot be run, marks what it fills, and gives the directory that it runs
    /// in.
    pub(crate) fn admit(
        &self,
        state: &mut State,
        buildpack: &str,
        step: &Step,
    ) -> Result<String, HostError> {
        check(step)?;
        let writes = self.writable(state, buildpack, step)?;
        let directory = step.working_dir.clone().unwrap_or_else(|| "/workspace".to_owned());
        if step.inputs.is_some()
            && !writes
                .iter()
                .any(|path| directory == *path || directory.starts_with(&format!("{path}/")))
        {
            return Err(refuse(
                "no-directory",
                format!(
                    "a step with inputs runs in a directory of a layer that it writes, not in {directory}"
                ),
            ));
        }
        Ok(directory)
    }

    /// Marks what the step fills; gives the directories.
    fn writable(
        &self,
        state: &mut State,
        buildpack: &str,
        step: &Step,
    ) -> Result<Vec<String>, HostError> {
        let mut paths = Vec::new();
        for name in &step.writes {
            if name == "workspace" {
                continue;
            }
            let Some(layer) = state.layers.get_mut(&(buildpack.to_owned(), name.clone())) else {
                return Err(refuse(
                    "no-layer",
                    format!("the step writes the layer '{name}', which is not open"),
                ));
            };
            match &layer.contents {
                Contents::Kept => {
                    return Err(refuse(
                        "layer-kept",
                        format!(
                            "the layer '{name}' is kept from the last build; clear or update it before a step fills it"
                        ),
                    ));
                }
                Contents::Written(_) => layer.contents = Contents::Filled,
                Contents::Filled => {}
            }
            paths.push(layer_path(buildpack, name));
        }
        Ok(paths)
    }

    /// The container with everything that the step sees.
    pub(crate) async fn prepare(
        &self,
        state: &mut State,
        buildpack: &str,
        step: &Step,
        directory: &str,
    ) -> Result<(), BuildError> {
        self.started(state).await?;
        self.deliver(state).await?;
        if step.inputs.is_none() {
            self.extract_source(state).await?;
        }
        state.workspace_in.filled |= step.writes.iter().any(|name| name == "workspace");
        let Some(container) = &state.container else { return Ok(()) };
        if !step.caches.is_empty() {
            let empty = crate::tree::Files::new();
            let caches = step.caches.clone();
            let fill = move |out: &mut dyn std::io::Write| {
                let groups: Vec<_> =
                    caches.iter().map(|name| (format!("{name}/"), &empty)).collect();
                crate::tree::write_files(&groups, out).map(drop)
            };
            container.extract("/caches", Box::new(fill), &self.cancel).await?;
        }
        if let Some(patterns) = step.inputs.clone().filter(|patterns| !patterns.is_empty()) {
            let archive = self.archive.clone();
            tracing::debug!(buildpack, ?patterns, "copying the inputs of a step");
            let fill = move |out: &mut dyn std::io::Write| {
                write_inputs(&archive, &patterns, out).map(drop).map_err(std::io::Error::other)
            };
            container.extract(directory, Box::new(fill), &self.cancel).await?;
        }
        Ok(())
    }

    async fn execute(
        &self,
        state: &State,
        buildpack: &str,
        step: &Step,
        working_dir: String,
    ) -> Result<Ended, BuildError> {
        let Some(container) = &state.container else { return Err(BuildError::Cancelled) };
        let log = self.log.clone();
        let lines: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |line| log.body(line));
        let shown = || if step.show { Output::Lines(Arc::clone(&lines)) } else { Output::Keep(0) };
        let outputs = if step.capture {
            (Output::Keep(CAPTURE_BYTES_MAX), shown())
        } else {
            (shown(), shown())
        };
        let command = Command {
            argv: step.argv.clone(),
            env: self.step_env(state, buildpack, step),
            working_dir,
            time_s_max: self.deadline.saturating_duration_since(Instant::now()).as_secs().max(1),
        };
        container.allow(Reach::of(&step.network));
        let ended = container.run(command, None, outputs, &self.cancel).await;
        container.allow(Reach::None);
        ended
    }

    /// What the step sees: the platform's, the operator's, the app's, the layers', its own.
    pub(crate) fn step_env(
        &self,
        state: &State,
        buildpack: &str,
        step: &Step,
    ) -> BTreeMap<String, String> {
        let mut env = environment::of_step();
        env.extend(self.settings.env.clone());
        env.extend(self.env.clone());
        let epoch_s = if step.inputs.is_some() {
            EPOCH_S
        } else {
            self.request.source.committed_at_s.max(EPOCH_S)
        };
        env.extend(environment::required(epoch_s));
        // Earlier buildpacks show what they meant for builds, this one all of its own.
        let Some(own) = state.order.iter().position(|id| id == buildpack) else { return env };
        for (index, id) in state.order.iter().enumerate().take(own + 1) {
            for ((_, name), layer) in state.layers.iter().filter(|((owner, _), _)| owner == id) {
                if index == own || layer.kinds.build {
                    let (path, tops) = (layer_path(id, name), layer.tops());
                    let effect = Effect { path: &path, tops: &tops, changes: &layer.changes };
                    environment::apply(&mut env, Phase::Build, [effect]);
                }
            }
        }
        env.extend(step.env.iter().cloned());
        env
    }
}

/// Everything of a step that does not depend on the build.
fn check(step: &Step) -> Result<(), HostError> {
    let wrong = |what: &str| Err(refuse("bad-step", format!("a step is refused: {what}")));
    let bytes: usize = step.argv.iter().map(String::len).sum();
    if step.argv.first().is_none_or(String::is_empty)
        || step.argv.len() > ARGUMENTS_MAX
        || bytes > ARGUMENTS_BYTES_MAX
    {
        return wrong("it has no arguments, or too many");
    }
    let texts = step
        .argv
        .iter()
        .chain(step.working_dir.iter())
        .chain(step.env.iter().map(|(_, value)| value));
    if texts.into_iter().any(|text| text.contains('\0')) {
        return wrong("a text has a zero byte");
    }
    if step.env.len() > 256
        || step.env.iter().any(|(name, _)| name.is_empty() || name.contains(['=', '\0']))
    {
        return wrong("a variable's name is not valid, or there are too many");
    }
    if [&step.caches, &step.writes, &step.network].iter().any(|names| names.len() > NAMES_MAX) {
        return wrong("it names too many caches, layers or roles");
    }
    if step
        .caches
        .iter()
        .chain(&step.network)
        .any(|name| name.parse::<berth_model::ProcessName>().is_err())
    {
        return wrong(
            "the name of a cache or role is not made of lower-case letters, digits and hyphens",
        );
    }
    if step
        .working_dir
        .as_ref()
        .is_some_and(|path| !path.starts_with('/') || path.split('/').any(|part| part == ".."))
    {
        return wrong("its working directory is not an absolute path");
    }
    Ok(())
}

pub(crate) fn broken(error: BuildError) -> HostError {
    HostError::Broken(Box::new(error))
}
