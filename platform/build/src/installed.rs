//! Which buildpacks there are, and the groups in which they are tried. It is swapped as a whole: a
//! build ends with what it began with.

use std::sync::Arc;

use berth_extensions::buildpack::Buildpack;
use berth_model::Digest;

use crate::order;
use crate::plan::Group;
use crate::request::Sum;

/// An installed buildpack.
#[derive(Clone)]
pub struct Loaded {
    /// Its id: the name of its layers' folder.
    pub id: String,
    /// Digest of its component.
    pub digest: Digest,
    /// Ready to be called.
    pub component: Arc<Buildpack>,
}

/// All of them.
#[derive(Clone, Default)]
pub struct Installed {
    /// Those that can be called. Of those that the usual groups do not name, the first is tried
    /// first.
    pub buildpacks: Vec<Loaded>,
    /// Those that cannot be called, each with the reason. A group that needs one fails with it.
    pub broken: Vec<(String, String)>,
    /// What the operator set; where it is empty, the usual groups are tried.
    pub order: Vec<Group>,
}

impl Installed {
    /// Their ids.
    pub fn ids(&self) -> Vec<String> {
        let broken = self.broken.iter().map(|(id, _)| id);
        self.buildpacks.iter().map(|loaded| &loaded.id).chain(broken).cloned().collect()
    }

    /// The groups that are tried for an app that names no buildpacks.
    pub fn groups(&self) -> Vec<Group> {
        order::standing(&self.order, &self.ids())
    }

    /// What a build depends on: the components, and a digest over their ids and the groups.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        let mut sum = Sum::default();
        for id in self.ids() {
            sum.part(id.as_bytes());
        }
        for group in self.groups() {
            sum.part(b"group");
            for member in group.0 {
                sum.part(member.id.as_bytes());
                sum.part(&[u8::from(member.optional)]);
            }
        }
        let components = self.buildpacks.iter().map(|loaded| loaded.digest);
        components.chain([sum.digest()]).collect()
    }
}
