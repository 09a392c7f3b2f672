//! Buildpacks: which there are, and in which order they are tried.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A buildpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildpackView {
    /// Its name: `python`, `acme-make`.
    pub id: String,
    /// `shipped` with Berth, `added`, or `replaced`: added in the place of one that ships with Berth.
    pub origin: String,
    /// Its version; absent for one that ships with Berth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Digest of its component.
    pub component: String,
    /// One sentence of its author; empty for one that ships with Berth.
    pub description: String,
    /// Why it cannot be called; builds pass it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// When it was first added; absent for one that ships with Berth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_at: Option<Timestamp>,
    /// When this component came; absent for one that ships with Berth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
}

/// The groups of buildpacks that are tried for an app that names none. The first whose members all
/// fit builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildpackOrder {
    /// Each group is ids with commas between them; one with a `?` behind it may be missing:
    /// `node,static?`.
    pub groups: Vec<String>,
    /// Whether an operator set them.
    pub set: bool,
}

/// Another order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBuildpackOrder {
    /// As in [`BuildpackOrder`]; without any, the usual ones are tried again.
    pub groups: Vec<String>,
}
