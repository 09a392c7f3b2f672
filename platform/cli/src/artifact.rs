//! Extensions in a registry of container images: an OCI artifact whose only layer is the component.
//!
//! The form is the one of the Wasm OCI artifact layout (config `application/vnd.wasm.config.v0+json`,
//! one layer `application/wasm`), so that tools of others push what is pulled here, and pull what is
//! pushed. A name is resolved to a digest once, and everything after that goes by digest.

mod login;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::{Client, Reference};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

/// Most bytes of a component, which is what a platform takes.
const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const COMPONENT_TYPE: &str = "application/wasm";
const CONNECT_WAIT: Duration = Duration::from_secs(10);
const READ_WAIT: Duration = Duration::from_secs(60);

/// A component that lies in a registry.
#[derive(Debug)]
pub(crate) struct Artifact {
    /// Where, by digest: `HOST/NAME@sha256:…`.
    pub(crate) place: String,
    pub(crate) component: Vec<u8>,
}

/// What is said of a component beside its bytes.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) description: String,
}

/// Puts a component into a registry and gives its place by digest. The same component has the same
/// digest whenever it is pushed: nothing in the artifact says when.
pub(crate) async fn push(
    reference: &str,
    component: Vec<u8>,
    facts: &Facts,
) -> Result<String, Failure> {
    let place = parse(reference)?;
    if place.digest().is_some() {
        return Err(Failure::usage(format!(
            "{reference} names a digest, which follows from what is pushed: name a tag"
        )));
    }
    let auth = login::of(place.registry())?;
    let client = client(&place);
    let failed = |error| explain("push to", reference, &error);
    let digest = format!("sha256:{:x}", Sha256::digest(&component));
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [digest],
        "component": { "exports": [], "imports": [] },
    });
    let config = Config::new(config.to_string(), CONFIG_TYPE.to_owned(), None);
    let layers = [ImageLayer::new(component, COMPONENT_TYPE.to_owned(), None)];
    let manifest = OciImageManifest::build(&layers, &config, Some(annotations(facts)));
    client.push(&place, &layers, config, &auth, Some(manifest)).await.map_err(failed)?;
    let digest = client.fetch_manifest_digest(&place, &auth).await.map_err(failed)?;
    Ok(place.clone_with_digest(digest).to_string())
}

/// Gets a component out of a registry, and proves that its bytes are those of the digest.
pub(crate) async fn pull(reference: &str) -> Result<Artifact, Failure> {
    let place = parse(reference)?;
    let auth = login::of(place.registry())?;
    let client = client(&place);
    let failed = |error| explain("pull", reference, &error);
    let (manifest, digest) = client.pull_image_manifest(&place, &auth).await.map_err(failed)?;
    let place = place.clone_with_digest(digest);
    let layer = only_component(reference, &manifest)?;
    let mut stream = client.pull_blob_stream(&place, layer).await.map_err(failed)?;
    let mut component = Vec::new();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|error| failed(OciDistributionError::IoError(error)))?;
        if component.len() + bytes.len() > COMPONENT_BYTES_MAX {
            return Err(too_large(reference));
        }
        component.extend_from_slice(&bytes);
    }
    let found = format!("sha256:{:x}", Sha256::digest(&component));
    if found != layer.digest {
        return Err(Failure::failed(format!(
            "{reference}: the registry sent other bytes than {} names; nothing is kept",
            layer.digest
        )));
    }
    Ok(Artifact { place: place.to_string(), component })
}

/// Whether somebody means a registry: `HOST/NAME[:TAG|@DIGEST]` with a port, a dot or `localhost` in
/// the host, as Docker tells hosts from folders.
pub(crate) fn is_reference(text: &str) -> bool {
    let host = text.split_once('/').map(|(host, _)| host);
    host.is_some_and(|host| {
        !host.starts_with('.') && (host == "localhost" || host.contains(['.', ':']))
    })
}

fn parse(reference: &str) -> Result<Reference, Failure> {
    let refused = |why: String| {
        Failure::usage(format!("'{reference}' is no place in a registry: {why}"))
            .with_hint("write HOST[:PORT]/NAME:TAG or HOST[:PORT]/NAME@sha256:…")
    };
    if !is_reference(reference) {
        return Err(refused("it names no host".to_owned()));
    }
    reference.parse().map_err(|error: oci_client::ParseError| refused(error.to_string()))
}

fn client(place: &Reference) -> Client {
    // A second call finds the first one's provider, which is the same.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    // As Docker does: a registry on this machine may speak without TLS.
    let protocol = if is_loopback(place.registry()) {
        ClientProtocol::HttpsExcept(vec![place.registry().to_owned()])
    } else {
        ClientProtocol::Https
    };
    Client::new(ClientConfig {
        protocol,
        platform_resolver: None,
        connect_timeout: Some(CONNECT_WAIT),
        read_timeout: Some(READ_WAIT),
        user_agent: concat!("berth/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn annotations(facts: &Facts) -> BTreeMap<String, String> {
    [("title", &facts.id), ("version", &facts.version), ("description", &facts.description)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.clone()))
        .collect()
}

fn only_component<'m>(
    reference: &str,
    manifest: &'m OciImageManifest,
) -> Result<&'m OciDescriptor, Failure> {
    let refused = |why: String| Failure::failed(format!("{reference} is no extension: {why}"));
    let [layer] = &manifest.layers[..] else {
        return Err(refused(format!("it has {} layers, not one", manifest.layers.len())));
    };
    if layer.media_type != COMPONENT_TYPE {
        let kind: String = layer.media_type.chars().take(80).flat_map(char::escape_default).collect();
        return Err(refused(format!("its layer is {kind}, not {COMPONENT_TYPE}")));
    }
    match usize::try_from(layer.size) {
        Ok(bytes) if bytes <= COMPONENT_BYTES_MAX => Ok(layer),
        _ => Err(too_large(reference)),
    }
}

fn too_large(reference: &str) -> Failure {
    Failure::failed(format!(
        "{reference} is larger than {} MiB, the most that a platform takes",
        COMPONENT_BYTES_MAX >> 20
    ))
}

/// What a registry's answer means to somebody who typed a name.
fn explain(doing: &str, reference: &str, error: &OciDistributionError) -> Failure {
    let why = match error {
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::ServerError { code: 401 | 403, .. } => {
            return Failure::failed(format!("cannot {doing} {reference}: the registry refuses you"))
                .with_hint(login::HINT);
        }
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => "it is not there".to_owned(),
        OciDistributionError::ImageIndexParsingNoPlatformResolverError => {
            "it is an image for several platforms, no extension".to_owned()
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let said: Vec<&str> = envelope.errors.iter().map(|one| one.message.as_str()).collect();
            berth_model::text::printable(&said.join("; "), 400)
        }
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        }
    };
    Failure::failed(format!("cannot {doing} {reference}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_registry_is_told_from_a_file() {
        for reference in ["registry.example/a:1", "localhost:5000/a/b", "localhost/a", "10.0.0.1:5000/x"] {
            assert!(is_reference(reference), "{reference}");
            assert!(parse(reference).is_ok(), "{reference}");
        }
        for file in ["a.wasm", "./a.wasm", "../x/a.wasm", "/tmp/a.wasm", "target/a.wasm"] {
            assert!(!is_reference(file), "{file}");
        }
        for bad in ["registry.example/UPPER:1", "registry.example/a@sha256:12", "registry.example/"] {
            let text = parse(bad).unwrap_err().to_string();
            assert!(text.contains(bad) && text.contains("HOST[:PORT]/NAME"), "{text}");
        }
    }

    #[test]
    fn only_a_registry_on_this_machine_may_do_without_tls() {
        for own in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["registry.example", "10.0.0.1:5000", "localhost.example", "127.0.0.1.example"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
