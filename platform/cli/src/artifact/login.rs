//! Who somebody is to a registry: what `docker login` or `podman login` left, or nobody.

use std::env;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use crate::failure::Failure;

/// Most bytes of a file with logins.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How long a credential helper may take; it may ask somebody.
const HELPER_WAIT: Duration = Duration::from_secs(60);

/// Who somebody is. It never shows itself.
pub(super) enum Login {
    Nobody,
    Password {
        name: String,
        password: String,
    },
    /// A token that is good for other tokens (OAuth 2.0, RFC 6749, 6).
    Identity(String),
}

impl Login {
    /// Whether somebody is logged in.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Self::Nobody)
    }
}

/// Where logins are, the first first.
fn files() -> Vec<PathBuf> {
    let folder =
        |name: &str, below: &str| env::var_os(name).map(|at| PathBuf::from(at).join(below));
    [
        env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from),
        folder("DOCKER_CONFIG", "config.json").or_else(|| folder("HOME", ".docker/config.json")),
        folder("XDG_RUNTIME_DIR", "containers/auth.json"),
        folder("HOME", ".config/containers/auth.json"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The login for a registry, which stays in memory.
///
/// # Errors
/// There is one and it cannot be read.
pub(super) async fn of(registry: &str) -> Result<Login, Failure> {
    let host = registry.to_owned();
    // A helper is a program, which is waited for.
    let found = tokio::task::spawn_blocking(move || first(&host));
    match tokio::time::timeout(HELPER_WAIT, found).await {
        Ok(Ok(login)) => login,
        Ok(Err(_)) => Err(Failure::failed(format!("the login for {registry} cannot be read"))),
        Err(_) => Err(Failure::failed(format!(
            "the credential helper for {registry} did not answer in {} s",
            HELPER_WAIT.as_secs()
        ))),
    }
}

fn first(registry: &str) -> Result<Login, Failure> {
    for path in files() {
        let Ok(file) = File::open(&path) else { continue };
        let reader = BufReader::new(file.take(FILE_BYTES_MAX));
        // The errors' own text could hold what a helper printed.
        let why = match get_credential_from_reader(reader, registry) {
            Ok(DockerCredential::UsernamePassword(name, password)) => {
                return Ok(Login::Password { name, password });
            }
            Ok(DockerCredential::IdentityToken(token)) => return Ok(Login::Identity(token)),
            Err(CredentialRetrievalError::NoCredentialConfigured) => continue,
            // How helpers say that they know nothing of a registry.
            Err(CredentialRetrievalError::HelperFailure { stdout, .. })
                if stdout.contains("credentials not found") =>
            {
                continue;
            }
            Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
                format!("the credential helper {helper} failed")
            }
            Err(CredentialRetrievalError::HelperCommunicationError) => {
                "its credential helper cannot be run".to_owned()
            }
            Err(CredentialRetrievalError::MalformedHelperResponse) => {
                "its credential helper answered something else than a login".to_owned()
            }
            Err(CredentialRetrievalError::ConfigReadError) => "it is no JSON of logins".to_owned(),
            Err(_) => "its entry is damaged".to_owned(),
        };
        let path = path.display();
        return Err(Failure::failed(format!("no login for {registry} from {path}: {why}"))
            .with_hint(format!("`docker login {registry}` or `podman login {registry}` again")));
    }
    Ok(Login::Nobody)
}
