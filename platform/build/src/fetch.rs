//! Runtimes and packages by inventory entry: the build stack's own tool fetches the archive from
//! its own default registry, or the operator's mirror, into the app's cache; the host checks it.
//!
//! The build stack has pip, whose registry also carries Node with npm. So npm packages are fetched
//! by a pinned npm that pip brought (see platform/decisions). Nothing in here names a registry.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_extensions::buildpack::{HostError, Step};
use sha2::{Digest as _, Sha256, Sha512};

use crate::container::{Command, Output};
use crate::host::refuse;
use crate::inventory::{is_package, is_word};
use crate::session::Session;
use crate::steps::broken;

/// Brings an npm into the cache: a wheel with Node and npm in it, pinned by version and hash.
const BOOTSTRAP: &str = include_str!("fetch/bootstrap.sh");
const NPM: &str = include_str!("fetch/npm.sh");
const PIP: &str = include_str!("fetch/pip.sh");
/// Longest fetch.
const FETCH_S_MAX: u64 = 900;

/// A hash in the form of Subresource Integrity (W3C), of one algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Integrity {
    Sha256(Vec<u8>),
    Sha512(Vec<u8>),
}

impl Integrity {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (algorithm, base64) = text.split_once('-')?;
        let bytes = STANDARD.decode(base64).ok()?;
        match (algorithm, bytes.len()) {
            ("sha256", 32) => Some(Self::Sha256(bytes)),
            ("sha512", 64) => Some(Self::Sha512(bytes)),
            _ => None,
        }
    }

    fn hasher(&self) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::Sha512(_) => Hasher::Sha512(Box::new(Sha512::new())),
        }
    }

    fn matches(&self, hasher: Hasher) -> bool {
        match (self, hasher) {
            (Self::Sha256(expected), Hasher::Sha256(sum)) => sum.finalize()[..] == expected[..],
            (Self::Sha512(expected), Hasher::Sha512(sum)) => sum.finalize()[..] == expected[..],
            _ => false,
        }
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sum) => sum.update(bytes),
            Self::Sha512(sum) => sum.update(bytes),
        }
    }
}

/// An entry that can be fetched.
pub(crate) struct Wanted {
    expected: Integrity,
    script: String,
    /// Where it will lie in the build container.
    pub(crate) file: String,
}

/// Refuses what cannot be fetched.
pub(crate) fn admit(
    role: &str,
    package: &str,
    version: &str,
    integrity: &str,
) -> Result<Wanted, HostError> {
    if !is_word(role) || !is_package(package) || !is_word(version) {
        return Err(refuse(
            "bad-entry",
            "the role, package or version of a fetch is not valid".to_owned(),
        ));
    }
    let Some(expected) = Integrity::parse(integrity) else {
        return Err(refuse(
            "no-integrity",
            format!("{package} {version} has no hash in the inventory, so it cannot be fetched"),
        ));
    };
    let script = match role {
        "node" => [BOOTSTRAP, NPM].concat(),
        "python" => PIP.to_owned(),
        other => {
            return Err(refuse(
                "no-tool",
                format!("nothing in the build stack fetches archives of the role '{other}'"),
            ));
        }
    };
    let file = format!("/caches/{role}/archives/{}-{version}", package.replace(['@', '/'], "_"));
    Ok(Wanted { expected, script, file })
}

impl Session {
    /// Fetches an entry and gives the archive's path in the build container.
    pub(crate) async fn fetch(
        &self,
        buildpack: &str,
        role: &str,
        package: &str,
        version: &str,
        integrity: &str,
    ) -> Result<String, HostError> {
        let Wanted { expected, script, file } = admit(role, package, version, integrity)?;
        // A file of an earlier build first; if it is damaged it is fetched anew.
        if self.is_archive(buildpack, &file, &expected).await? {
            return Ok(file);
        }
        let step = Step {
            argv: vec![
                "sh".to_owned(),
                "-euc".to_owned(),
                script,
                "fetch".to_owned(),
                package.to_owned(),
                version.to_owned(),
                file.clone(),
            ],
            working_dir: Some("/tmp".to_owned()),
            env: Vec::new(),
            // None of the source.
            inputs: Some(Vec::new()),
            caches: vec![role.to_owned()],
            writes: Vec::new(),
            network: vec![role.to_owned()],
            show: true,
            capture: false,
            extra: vec![("title".to_owned(), format!("fetching {package} {version}"))],
        };
        let outcome = self.run_bare(buildpack, step).await?;
        if outcome != 0 {
            let message = format!(
                "{package} {version} could not be fetched. The lines above say why; if the network failed, push again."
            );
            let mut error = refuse("fetch", message);
            if let HostError::Failure(failure) = &mut error {
                failure.retry = true;
            }
            return Err(error);
        }
        if self.is_archive(buildpack, &file, &expected).await? {
            return Ok(file);
        }
        Err(refuse(
            "integrity",
            format!(
                "{package} {version} was fetched, but it is not the archive that the inventory names (its hash differs). It is not used."
            ),
        ))
    }

    /// A step of the platform's own: no layer of a buildpack decides what its tool is.
    async fn run_bare(&self, buildpack: &str, step: Step) -> Result<i32, HostError> {
        let title = step.extra.first().map(|(_, title)| title.clone()).unwrap_or_default();
        let begun = std::time::Instant::now();
        let state = &mut *self.state.lock().await;
        self.prepare(state, buildpack, &step, "/tmp").await.map_err(broken)?;
        self.log.body(&format!("$ {title}"));
        let Some(container) = &state.container else {
            return Err(broken(crate::BuildError::Cancelled));
        };
        let log = self.log.clone();
        let lines: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |line| log.body(line));
        let env = self.step_env(state, "", &step);
        let command = Command {
            argv: step.argv,
            env,
            working_dir: "/tmp".to_owned(),
            time_s_max: FETCH_S_MAX,
        };
        container.allow(crate::proxy::Reach::of(&step.network));
        let outputs = (Output::Lines(Arc::clone(&lines)), Output::Lines(lines));
        let ended = container.run(command, None, outputs, &self.cancel).await;
        container.allow(crate::proxy::Reach::None);
        let code = ended.map_err(broken)?.exit.code;
        Self::took(state, format!("{buildpack}: {title}"), begun.elapsed());
        Ok(code)
    }

    /// Whether the file in the container is the archive: its bytes are hashed out here, where
    /// nothing that a build step left behind can answer in their place.
    async fn is_archive(
        &self,
        buildpack: &str,
        file: &str,
        expected: &Integrity,
    ) -> Result<bool, HostError> {
        let state = &mut *self.state.lock().await;
        self.started(state).await.map_err(broken)?;
        let Some(container) = &state.container else { return Ok(false) };
        tracing::debug!(buildpack, file, "checking an archive");
        let hasher = Arc::new(Mutex::new(expected.hasher()));
        let taking = Arc::clone(&hasher);
        let take =
            move |bytes: &[u8]| taking.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
        let command = Command {
            argv: vec!["cat".to_owned(), file.to_owned()],
            env: crate::environment::of_step(),
            working_dir: "/".to_owned(),
            time_s_max: FETCH_S_MAX,
        };
        let ended = container
            .run(command, None, (Output::Pieces(Box::new(take)), Output::Keep(0)), &self.cancel)
            .await;
        if ended.map_err(broken)?.exit.code != 0 {
            return Ok(false);
        }
        let Some(hasher) = Arc::into_inner(hasher) else { return Ok(false) };
        Ok(expected.matches(hasher.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integrity_is_one_of_two_algorithms_with_the_right_length() {
        let sum = STANDARD.encode(Sha256::digest(b"x"));
        let integrity = Integrity::parse(&format!("sha256-{sum}")).unwrap();
        let mut hasher = integrity.hasher();
        hasher.update(b"x");
        assert!(integrity.matches(hasher));
        let mut other = integrity.hasher();
        other.update(b"y");
        assert!(!integrity.matches(other));
        for bad in [
            "",
            "sha256",
            "sha256-!",
            "sha512-AAAA",
            &format!("md5-{sum}"),
            &format!("sha512-{sum}"),
        ] {
            assert_eq!(Integrity::parse(bad), None, "{bad}");
        }
    }
}
