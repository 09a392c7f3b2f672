//! Control groups, on v1 (each controller its own tree, also "hybrid") and on v2 (one tree).
//!
//! A leaf holds the processes of one container, tool or worker under hard limits. Leaves lie under
//! `<base>/<data-id>/`, so that everything of a data folder can be found and ended.

mod limits;
mod tree;

pub(crate) use limits::LeafLimits;
pub(crate) use tree::{Hierarchy, Leaf};
