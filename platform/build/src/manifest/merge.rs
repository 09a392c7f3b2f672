//! The manifest of a release from what the buildpacks proposed and what the app says.

use std::collections::BTreeMap;

use berth_model::manifest::WasmSettings;
use berth_model::{Manifest, Process, ProcessName, Runtime};

use super::{AppJson, BerthToml, ManifestError};

/// What one buildpack proposed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proposed {
    /// Processes by name.
    pub processes: Vec<(ProcessName, Process)>,
    /// Command of the release phase.
    pub release: Option<Vec<String>>,
}

/// Later buildpacks replace a process of the same name; `berth.toml` replaces what they proposed.
///
/// # Errors
/// `berth.toml` describes a process that has no command, a formation or a check names none.
pub fn merge(
    proposed: &[Proposed],
    berth: &BerthToml,
    app: &AppJson,
    runtime: Runtime,
) -> Result<Manifest, ManifestError> {
    let mut processes: BTreeMap<ProcessName, Process> = BTreeMap::new();
    let mut release = None;
    for proposal in proposed {
        processes.extend(proposal.processes.iter().cloned());
        release = proposal.release.clone().or(release);
    }
    if let Runtime::Wasm { .. } = runtime {
        // The worker runs the component; the process carries the name, the scale and the check.
        processes.entry(named("web")?).or_insert_with(|| process(Vec::new()));
    }
    for (name, check) in &app.checks {
        if let Some(process) = processes.get_mut(name) {
            process.check = Some(check.clone());
        }
    }
    for (name, settings) in &berth.processes {
        if let Some(command) = &settings.command {
            let known = processes.entry(name.clone()).or_insert_with(|| process(Vec::new()));
            known.command = command.clone();
        }
        let Some(process) = processes.get_mut(name) else {
            return Err(ManifestError {
                file: "berth.toml",
                line: None,
                message: format!("the process '{name}' has no command, here or in the Procfile."),
            });
        };
        if let Some(directory) = &settings.directory {
            process.working_dir = format!("/workspace/{}", directory.trim_matches('/'));
        }
        if let Some(path) = &settings.check {
            process.check = Some(berth_model::manifest::HttpCheck { path: path.clone() });
        }
    }
    if let Some(name) = app.formation.keys().find(|name| !processes.contains_key(*name)) {
        return Err(ManifestError {
            file: "app.json",
            line: None,
            message: format!("'formation' names the process '{name}', which does not exist."),
        });
    }
    let mut formation = app.formation.clone();
    if !formation.is_empty() {
        // As on Heroku and Dokku: what a formation does not name does not run.
        for name in processes.keys() {
            formation.entry(name.clone()).or_insert(0);
        }
    }
    let release = berth.release.clone().or(release).map(process);
    let wasm = match runtime {
        Runtime::Wasm { .. } => berth.wasm.clone(),
        Runtime::Container => WasmSettings::default(),
    };
    Ok(Manifest { processes, release, runtime, formation, wasm })
}

fn named(name: &str) -> Result<ProcessName, ManifestError> {
    name.parse().map_err(|error: berth_model::NameError| ManifestError {
        file: "berth.toml",
        line: None,
        message: error.to_string(),
    })
}

fn process(command: Vec<String>) -> Process {
    Process { command, working_dir: "/workspace".to_owned(), check: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(rows: &[(&str, &str)]) -> Proposed {
        let processes = rows
            .iter()
            .map(|(name, command)| (name.parse().unwrap(), process(vec![(*command).to_owned()])))
            .collect();
        Proposed { processes, release: None }
    }

    fn shown(manifest: &Manifest) -> Vec<String> {
        manifest
            .processes
            .iter()
            .map(|(name, process)| format!("{name}={}", process.command.join(" ")))
            .collect()
    }

    #[test]
    fn later_buildpacks_and_then_the_apps_own_file_win() {
        let berth = BerthToml::parse("[processes.worker]\ncommand = ['mine']\n[processes.web]\ncheck = '/up'\ndirectory = 'sub/'\n[release]\ncommand = ['go']").unwrap();
        let proposals = [
            proposed(&[("web", "a"), ("worker", "a")]),
            Proposed { release: Some(vec!["other".to_owned()]), ..proposed(&[("web", "b")]) },
        ];
        let manifest = merge(&proposals, &berth, &AppJson::default(), Runtime::Container).unwrap();
        assert_eq!(shown(&manifest), ["web=b", "worker=mine"]);
        let web = &manifest.processes[&"web".parse().unwrap()];
        assert_eq!(
            (web.working_dir.as_str(), web.check.as_ref().unwrap().path.as_str()),
            ("/workspace/sub", "/up")
        );
        assert_eq!(manifest.release.unwrap().command, ["go"]);
    }

    #[test]
    fn a_formation_names_processes_that_exist_and_the_others_do_not_run() {
        let app = AppJson::parse(r#"{"formation":{"web":{"quantity":3}}}"#).unwrap();
        let manifest = merge(
            &[proposed(&[("web", "a"), ("clock", "b")])],
            &BerthToml::default(),
            &app,
            Runtime::Container,
        )
        .unwrap();
        let formation: Vec<String> =
            manifest.formation.iter().map(|(name, count)| format!("{name}={count}")).collect();
        assert_eq!(formation, ["clock=0", "web=3"]);
        assert!(
            merge(&[proposed(&[("clock", "b")])], &BerthToml::default(), &app, Runtime::Container)
                .is_err()
        );
    }

    #[test]
    fn settings_without_a_command_are_an_error() {
        let berth = BerthToml::parse("[processes.web]\ncheck = '/'").unwrap();
        let error = merge(&[], &berth, &AppJson::default(), Runtime::Container).unwrap_err();
        assert!(error.to_string().contains("'web' has no command"));
    }

    #[test]
    fn a_wasm_app_has_a_web_process() {
        let runtime = Runtime::Wasm { component: berth_model::Digest::from_sha256([1; 32]) };
        let manifest = merge(&[], &BerthToml::default(), &AppJson::default(), runtime).unwrap();
        assert_eq!(shown(&manifest), ["web="]);
    }
}
