//! Domains of an app.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// A host name that routes to an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainView {
    /// The host name; `*.example.org` is a wildcard of one label.
    pub name: String,
    /// It follows from the app's name and cannot be removed.
    pub default: bool,
    /// Where the app answers under it.
    pub url: String,
    /// When it was added; the default has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
}

/// A domain to route to an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddDomain {
    /// The host name, in lower case.
    #[schema(example = "www.example.org")]
    pub name: String,
}

/// The domains of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Domains {
    /// The default one first.
    pub items: Vec<DomainView>,
}
