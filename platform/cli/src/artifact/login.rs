//! Who somebody is to a registry: what `docker login` or `podman login` left, or nobody.

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

use crate::failure::Failure;

/// What to do where a registry refuses.
pub(super) const HINT: &str =
    "`docker login HOST` or `podman login --authfile ~/.docker/config.json HOST` logs in";

/// The credentials of a registry, which stay in memory.
pub(super) fn of(registry: &str) -> Result<RegistryAuth, Failure> {
    match docker_credential::get_credential(registry) {
        Ok(DockerCredential::UsernamePassword(name, password)) => {
            Ok(RegistryAuth::Basic(name, password))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(RegistryAuth::Bearer(token)),
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(RegistryAuth::Anonymous),
        // The error's text could hold a helper's output.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => Err(Failure::failed(
            format!("the credential helper '{helper}' of ~/.docker/config.json failed for {registry}"),
        )),
        Err(_) => Err(Failure::failed(format!(
            "the entry of {registry} in ~/.docker/config.json cannot be read"
        ))
        .with_hint(HINT)),
    }
}
