//! Extensions in a registry of container images: an OCI artifact whose only layer is the component.
//!
//! The form is that of the Wasm OCI artifact layout, so tools of others push what is pulled here,
//! and pull what is pushed. A tag is resolved to a digest once, and everything after that goes by
//! digest: what was looked at is what is installed.

mod contents;
mod explain;
mod form;
mod login;
mod moved;
mod place;
mod registry;
#[cfg(test)]
mod tests;
mod token;

use std::time::Duration;

use berth_model::Digest;
use berth_model::extension::ExtensionManifest;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;
use contents::Contents;
use place::Place;
use registry::{Registry, Trouble};

pub(crate) use moved::Moved;

/// Most bytes of a component, which is what a platform takes.
pub(crate) const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How much a registry may send, and how long it may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Until a connection is there.
    connect: Duration,
    /// Until an answer begins, or goes on.
    answer: Duration,
    /// The whole of a push or pull.
    whole: Duration,
    /// Bytes of a manifest: what the distribution specification says that clients take.
    manifest_bytes: u64,
    component_bytes: u64,
}

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    answer: Duration::from_secs(60),
    whole: Duration::from_secs(900),
    manifest_bytes: 4 * 1024 * 1024,
    component_bytes: COMPONENT_BYTES_MAX,
};

/// A component that lies in a registry.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) told: Told,
    pub(crate) component: Vec<u8>,
}

/// What a script is told of a component, and where it lies.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) version: String,
    /// Digest of the component itself.
    pub(crate) component: String,
    pub(crate) bytes: u64,
    /// Where, by digest: `HOST/NAME@sha256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<String>,
}

impl Told {
    pub(crate) fn of(
        manifest: &ExtensionManifest,
        component: &[u8],
        place: Option<String>,
    ) -> Self {
        Self {
            id: manifest.id.to_string(),
            version: manifest.version.clone(),
            component: digest(component).to_string(),
            bytes: component.len() as u64,
            place,
        }
    }
}

/// The manifest inside a component.
///
/// # Errors
/// The component is no extension.
pub(crate) fn manifest_of(what: &str, component: &[u8]) -> Result<ExtensionManifest, Failure> {
    Ok(contents(what, component)?.manifest)
}

fn contents(what: &str, component: &[u8]) -> Result<Contents, Failure> {
    contents::read(component).map_err(|why| no_extension(what, &why))
}

fn no_extension(what: &str, why: &str) -> Failure {
    Failure::failed(format!("{what} is no extension: {why}"))
}

/// Puts a component into a registry. The same component has the same digest whenever it is pushed:
/// nothing in the artifact says when, or by whom.
///
/// # Errors
/// The name is none, the component is no extension, or the registry does not take it.
pub(crate) async fn push(
    reference: &str,
    file: &str,
    component: Vec<u8>,
    moved: &Moved,
) -> Result<Told, Failure> {
    let place = parse(reference)?;
    if place.digest.is_some() {
        return Err(Failure::usage(format!(
            "{reference} names a digest, which follows from what is pushed"
        ))
        .with_hint("write HOST[:PORT]/NAME:TAG"));
    }
    let contents = contents(file, &component)?;
    let mut told = Told::of(&contents.manifest, &component, None);
    let login = login::of(&place.host).await?;
    let known = login.is_known();
    let pushed = async {
        let mut registry = Registry::at(&place, login, LIMITS).await?;
        let layer = form::Descriptor::of(form::COMPONENT, &component);
        let config = form::config(&layer, &contents);
        let manifest = form::manifest(&config, layer, &contents.manifest);
        moved.expect(component.len() as u64);
        registry.put_blob(component, Some(moved.clone())).await?;
        registry.put_blob(config, None).await?;
        registry.put_manifest(manifest).await
    };
    match tokio::time::timeout(LIMITS.whole, pushed).await.unwrap_or(Err(Trouble::Slow)) {
        Ok(digest) => told.place = Some(place.at(&digest)),
        Err(trouble) => return Err(explain::failure("push to", &place, known, &trouble)),
    }
    Ok(told)
}

/// Gets a component out of a registry, whose bytes are those of its digest.
///
/// # Errors
/// The name is none, nothing is there, or what is there is no extension.
pub(crate) async fn pull(reference: &str, moved: &Moved) -> Result<Artifact, Failure> {
    let place = parse(reference)?;
    let login = login::of(&place.host).await?;
    let known = login.is_known();
    let pulled = fetched(&place, login, LIMITS, moved);
    let pulled = tokio::time::timeout(LIMITS.whole, pulled).await.unwrap_or(Err(Trouble::Slow));
    let (digest, component) = pulled.map_err(|trouble| match trouble {
        Trouble::NoExtension(why) => no_extension(reference, &why),
        trouble => explain::failure("pull", &place, known, &trouble),
    })?;
    let manifest = manifest_of(reference, &component)?;
    Ok(Artifact { told: Told::of(&manifest, &component, Some(place.at(&digest))), component })
}

/// The digest of the artifact, and the component in it.
async fn fetched(
    place: &Place,
    login: login::Login,
    limits: Limits,
    moved: &Moved,
) -> Result<(Digest, Vec<u8>), Trouble> {
    let mut registry = Registry::at(place, login, limits).await?;
    let manifest = registry.manifest().await?;
    let found = digest(&manifest);
    if place.digest.is_some_and(|wanted| wanted != found) {
        return Err(Trouble::OtherBytes);
    }
    let layer = form::only_component(&manifest).map_err(Trouble::NoExtension)?;
    if layer.size > limits.component_bytes {
        return Err(Trouble::TooLarge { what: "the component", bytes_max: limits.component_bytes });
    }
    let wanted: Digest = layer
        .digest
        .parse()
        .map_err(|_| Trouble::NoExtension("its layer has no SHA-256 digest".to_owned()))?;
    moved.expect(layer.size);
    let component = registry.blob(&wanted, layer.size, moved).await?;
    if digest(&component) == wanted { Ok((found, component)) } else { Err(Trouble::OtherBytes) }
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// Whether somebody means a registry: the host has a dot or a port, or is `localhost`, as Docker
/// tells hosts from folders.
pub(crate) fn is_reference(text: &str) -> bool {
    let host = text.split_once('/').map(|(host, _)| host);
    host.is_some_and(|host| {
        !host.starts_with('.') && (host == "localhost" || host.contains(['.', ':']))
    })
}

fn parse(reference: &str) -> Result<Place, Failure> {
    let refused = |why: &str| {
        let shown = berth_model::text::printable(reference, 200);
        Failure::usage(format!("'{shown}' is no place in a registry: {why}"))
            .with_hint("write HOST[:PORT]/NAME:TAG or HOST[:PORT]/NAME@sha256:…")
    };
    if !is_reference(reference) {
        return Err(refused("it names no host"));
    }
    reference.parse().map_err(refused)
}
