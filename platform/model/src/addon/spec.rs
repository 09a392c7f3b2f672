//! What an extension says of an add-on, and what the platform makes of it.

use std::collections::{BTreeMap, BTreeSet};

use super::fill;
use crate::extension::Capabilities;
use crate::manifest::{Manifest, Process, Runtime};
use crate::plan::{Config, ConfigName, NewVolume, Secret};
use crate::rollout::WEB;
use crate::volume::{SIZE_MIB_MAX, SIZE_MIB_MIN, VOLUMES_MAX};
use crate::{Limits, MountPath, PackageName, ProcessName, VolumeName};

const PROCESSES_MAX: usize = 4;
/// Most packages of one add-on.
pub const PACKAGES_MAX: usize = 32;
const VARIABLES_MAX: usize = 64;
const SECRET_LENGTHS: std::ops::RangeInclusive<u32> = 16..=128;
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 32..=64 * 1024;
/// Bytes of a process's command together, and of one value.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// What an extension says, as it says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// What runs.
    pub processes: Vec<SpecProcess>,
    /// Variables of every process.
    pub environment: Vec<(String, String)>,
    /// Values that the platform makes; variables of every process as well.
    pub secrets: Vec<SpecSecret>,
    /// What attached apps are told.
    pub exports: Vec<(String, String)>,
}

/// A process of an add-on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecProcess {
    /// Its name.
    pub name: String,
    /// Debian packages.
    pub packages: Vec<String>,
    /// Argument vector.
    pub command: Vec<String>,
    /// What it mounts.
    pub volumes: Vec<SpecVolume>,
    /// Where it listens.
    pub port: Option<u16>,
    /// What it may use, MiB.
    pub memory_mib: u32,
}

/// A folder that outlives instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecVolume {
    /// Its name.
    pub name: String,
    /// Where the process finds it.
    pub path: String,
    /// What it may hold, MiB.
    pub size_mib: u32,
}

/// A value that the platform makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecSecret {
    /// The variable's name.
    pub name: String,
    /// Letters and digits.
    pub length: u32,
}

/// What an extension says cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the extension's description of the add-on cannot be used: {0}")]
pub struct SpecError(String);

/// A checked description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blueprint {
    /// What the image is made of, granted each.
    pub packages: BTreeSet<PackageName>,
    /// What the release runs. The process with the port is `web`, as in every app.
    pub manifest: Manifest,
    /// Limits of its instances.
    pub limits: BTreeMap<ProcessName, Limits>,
    /// Its volumes.
    pub volumes: Vec<NewVolume>,
    /// Where it listens.
    pub port: u16,
    /// Its environment, without the secrets.
    pub environment: Config,
    /// Secrets to be made: their names and how many letters and digits each has.
    pub secrets: BTreeMap<ConfigName, u32>,
    /// What attached apps are told.
    pub exports: Vec<(ConfigName, String)>,
}

fn bad<T>(what: impl Into<String>) -> Result<T, SpecError> {
    Err(SpecError(what.into()))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, SpecError> {
    text.parse().map_err(|error: T::Err| SpecError(error.to_string()))
}

impl Spec {
    /// Checks every part, and every package against what an operator granted.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn check(&self, granted: &Capabilities) -> Result<Blueprint, SpecError> {
        if !(1..=PROCESSES_MAX).contains(&self.processes.len()) {
            let count = self.processes.len();
            return bad(format!("{count} processes; 1 to {PROCESSES_MAX} are possible"));
        }
        let ports: Vec<u16> = self.processes.iter().filter_map(|process| process.port).collect();
        let [port] = ports[..] else {
            return bad(format!("{} processes have a port; one must have one", ports.len()));
        };
        if port < 1024 {
            return bad(format!("port {port}: processes are no root's and have ports from 1024"));
        }
        let mut blueprint = Blueprint {
            packages: BTreeSet::new(),
            manifest: Manifest {
                processes: BTreeMap::new(),
                release: None,
                runtime: Runtime::Container,
                formation: BTreeMap::new(),
                wasm: crate::manifest::WasmSettings::default(),
            },
            limits: BTreeMap::new(),
            volumes: Vec::new(),
            port,
            environment: Config::new(),
            secrets: BTreeMap::new(),
            exports: Vec::new(),
        };
        for process in &self.processes {
            process.check(granted, &mut blueprint)?;
        }
        if blueprint.packages.is_empty() {
            return bad("it names no package that it is made of");
        }
        self.variables(&mut blueprint)?;
        Ok(blueprint)
    }

    fn variables(&self, blueprint: &mut Blueprint) -> Result<(), SpecError> {
        let count = self.environment.len() + self.secrets.len() + self.exports.len();
        if count > VARIABLES_MAX {
            return bad(format!("{count} variables; {VARIABLES_MAX} are possible"));
        }
        for (name, value) in &self.environment {
            let name: ConfigName = parsed(name)?;
            value_is_good(&name, value)?;
            blueprint.environment.insert(name, Secret::new(value.clone()));
        }
        let mut sample = Config::new();
        for secret in &self.secrets {
            let name: ConfigName = parsed(&secret.name)?;
            value_is_good(&name, "")?;
            if !SECRET_LENGTHS.contains(&secret.length) {
                let (least, most) = SECRET_LENGTHS.into_inner();
                return bad(format!("the secret {name} has {least} to {most} letters"));
            }
            let known = blueprint.environment.contains_key(&name);
            if known || blueprint.secrets.insert(name.clone(), secret.length).is_some() {
                return bad(format!("{name} stands there twice"));
            }
            sample.insert(name, Secret::new(""));
        }
        for (name, template) in &self.exports {
            let name: ConfigName = parsed(name)?;
            value_is_good(&name, template)?;
            fill(template, "", &sample).map_err(|why| SpecError(format!("{name}: {why}")))?;
            if blueprint.exports.iter().any(|(known, _)| *known == name) {
                return bad(format!("{name} stands there twice"));
            }
            blueprint.exports.push((name, template.clone()));
        }
        Ok(())
    }
}

fn value_is_good(name: &ConfigName, value: &str) -> Result<(), SpecError> {
    if matches!(name.as_str(), "PORT" | "PATH" | "HOME") || name.as_str().starts_with("BERTH_") {
        return bad(format!("{name} is the platform's"));
    }
    if value.len() > TEXT_BYTES_MAX || value.contains('\0') {
        return bad(format!("the value of {name} is too long, or holds a NUL byte"));
    }
    Ok(())
}

impl SpecProcess {
    fn check(&self, granted: &Capabilities, into: &mut Blueprint) -> Result<(), SpecError> {
        let own: ProcessName = parsed(&self.name)?;
        // The one that is reached is probed and watched as what serves every app.
        let name: ProcessName = if self.port.is_some() { parsed(WEB)? } else { own };
        let bytes: usize = self.command.iter().map(String::len).sum();
        let holds_nul = self.command.iter().any(|word| word.contains('\0'));
        if self.command.is_empty() || bytes > TEXT_BYTES_MAX || holds_nul {
            return bad(format!("{}: its command is empty, too long, or holds a NUL", self.name));
        }
        if !MEMORY_MIB.contains(&self.memory_mib) {
            let (least, most) = MEMORY_MIB.into_inner();
            return bad(format!("{}: its memory is {least} to {most} MiB", self.name));
        }
        for package in &self.packages {
            let package: PackageName = parsed(package)?;
            if !granted.may_install(package.as_str()) {
                return bad(format!("the package '{package}' was not granted"));
            }
            into.packages.insert(package);
        }
        if into.packages.len() > PACKAGES_MAX {
            return bad(format!("more than {PACKAGES_MAX} packages"));
        }
        for volume in &self.volumes {
            volume.check(&name, into)?;
        }
        let limits = Limits { memory_mib: self.memory_mib, ..Limits::default() };
        into.limits.insert(name.clone(), limits);
        into.manifest.formation.insert(name.clone(), 1);
        let process =
            Process { command: self.command.clone(), working_dir: "/".to_owned(), check: None };
        if into.manifest.processes.insert(name, process).is_some() {
            return bad(format!("two processes are called '{}'", self.name));
        }
        Ok(())
    }
}

impl SpecVolume {
    fn check(&self, process: &ProcessName, into: &mut Blueprint) -> Result<(), SpecError> {
        let name: VolumeName = parsed(&self.name)?;
        let path: MountPath = parsed(&self.path)?;
        if !(SIZE_MIB_MIN..=SIZE_MIB_MAX).contains(&self.size_mib) {
            return bad(format!("the volume {name} has {SIZE_MIB_MIN} to {SIZE_MIB_MAX} MiB"));
        }
        let clashes = |other: &NewVolume| {
            other.name == name || (other.process == *process && other.path.overlaps(&path))
        };
        if into.volumes.len() >= VOLUMES_MAX || into.volumes.iter().any(clashes) {
            return bad(format!("the volume {name} is one too many, or lies in another"));
        }
        let (process, size_mib) = (process.clone(), self.size_mib);
        into.volumes.push(NewVolume { name, process, path, size_mib });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extension::Named;

    fn granted() -> Capabilities {
        let named = Named { name: "redis-server".to_owned(), why: String::new() };
        Capabilities { packages: vec![named], ..Capabilities::default() }
    }

    fn spec() -> Spec {
        Spec {
            processes: vec![SpecProcess {
                name: "redis".to_owned(),
                packages: vec!["redis-server".to_owned()],
                command: vec!["redis-server".to_owned()],
                volumes: vec![SpecVolume {
                    name: "data".to_owned(),
                    path: "/data".to_owned(),
                    size_mib: 64,
                }],
                port: Some(6379),
                memory_mib: 64,
            }],
            environment: Vec::new(),
            secrets: vec![SpecSecret { name: "PASSWORD".to_owned(), length: 32 }],
            exports: vec![("REDIS_URL".to_owned(), "redis://:${secret:PASSWORD}@${host}".into())],
        }
    }

    #[test]
    fn a_description_becomes_an_app() {
        let blueprint = spec().check(&granted()).unwrap();
        let web: ProcessName = "web".parse().unwrap();
        assert_eq!(blueprint.manifest.formation, BTreeMap::from([(web.clone(), 1)]));
        assert_eq!(blueprint.volumes[0].process, web);
        assert_eq!(blueprint.limits[&web].memory_mib, 64);
        assert_eq!((blueprint.port, blueprint.secrets.len()), (6379, 1));
    }

    #[test]
    fn a_package_that_was_not_granted_is_refused() {
        let refused = spec().check(&Capabilities::default()).unwrap_err().to_string();
        assert!(refused.contains("'redis-server' was not granted"), "{refused}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |change: fn(&mut Spec)| {
            let mut spec = spec();
            change(&mut spec);
            assert!(spec.check(&granted()).is_err(), "{spec:?}");
        };
        refused(|spec| spec.processes.clear());
        refused(|spec| spec.processes[0].port = None);
        refused(|spec| spec.processes[0].port = Some(80));
        refused(|spec| spec.processes = vec![spec.processes[0].clone(); 2]);
        refused(|spec| spec.processes[0].command.clear());
        refused(|spec| spec.processes[0].memory_mib = 0);
        refused(|spec| spec.processes[0].packages.clear());
        refused(|spec| spec.processes[0].packages = vec!["--help".to_owned()]);
        refused(|spec| spec.processes[0].packages = vec!["a=1".to_owned()]);
        refused(|spec| spec.processes[0].volumes[0].path = "/etc".to_owned());
        refused(|spec| spec.processes[0].volumes[0].size_mib = 0);
        refused(|spec| {
            let volume = spec.processes[0].volumes[0].clone();
            spec.processes[0].volumes.push(volume);
        });
        refused(|spec| spec.secrets[0].length = 4);
        refused(|spec| spec.secrets.push(spec.secrets[0].clone()));
        refused(|spec| spec.environment.push(("PATH".to_owned(), "/tmp".to_owned())));
        refused(|spec| spec.exports[0].1 = "${secret:OTHER}".to_owned());
        refused(|spec| spec.exports.push(spec.exports[0].clone()));
    }
}
