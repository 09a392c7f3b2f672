//! A root of a child's own: the system's folders read-only, and what it is shown besides.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

use super::mounts::{Attributes, attach, become_root, clone_tree};
use crate::failure::{Because, Failure};

/// Folders of the system, where they are. Some are links on most machines.
const SYSTEM: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib32", "lib64"];
const FLAGS: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOEXEC);

/// A root that is being built. The caller is in a mount namespace of its own.
pub(crate) struct View<'a> {
    root: &'a Path,
}

impl<'a> View<'a> {
    /// Begins at an empty folder, with the system's programs and libraries.
    pub(crate) fn begin(root: &'a Path) -> Result<Self, Failure> {
        mount("view", root, "tmpfs", FLAGS, c"mode=0755,size=64k")
            .because(|| format!("mounting a view at {}", root.display()))?;
        let view = Self { root };
        for name in SYSTEM {
            let host = Path::new("/").join(name);
            match fs::symlink_metadata(&host) {
                Ok(found) if found.is_symlink() => {
                    let target = fs::read_link(&host).because(|| format!("reading /{name}"))?;
                    view.link(&target, name)?;
                }
                Ok(found) if found.is_dir() => {
                    let attributes = Attributes { executable: true, ..Attributes::default() };
                    view.folder(&host, name, attributes)?;
                }
                _ => {}
            }
        }
        view.host("etc/ld.so.cache")?;
        Ok(view)
    }

    /// A folder of the host at another place.
    pub(crate) fn folder(
        &self,
        from: &Path,
        to: &str,
        attributes: Attributes<'_>,
    ) -> Result<(), Failure> {
        let at = self.root.join(to);
        let tree = clone_tree(from, attributes)?;
        fs::create_dir_all(&at).because(|| format!("showing /{to}"))?;
        attach(&tree, &at)
    }

    /// A file or folder of the host at its own place, read-only, where the host has it.
    pub(crate) fn host(&self, path: &str) -> Result<(), Failure> {
        let from = Path::new("/").join(path);
        match fs::metadata(&from) {
            Ok(found) if found.is_dir() => self.folder(&from, path, Attributes::default()),
            Ok(_) => {
                let at = self.place(path)?;
                attach(&clone_tree(&from, Attributes::default())?, &at)
            }
            Err(_) => Ok(()),
        }
    }

    /// A device, usable; the view itself allows none.
    pub(crate) fn device(&self, name: &str) -> Result<(), Failure> {
        let path = format!("dev/{name}");
        let at = self.place(&path)?;
        mount_bind(Path::new("/").join(&path), &at).because(|| format!("showing /{path}"))
    }

    /// A symbolic link.
    pub(crate) fn link(&self, target: &Path, name: &str) -> Result<(), Failure> {
        std::os::unix::fs::symlink(target, self.root.join(name))
            .because(|| format!("showing /{name}"))
    }

    /// Makes it the root of this process. Nothing can be added any more, and nothing else seen.
    pub(crate) fn enter(self) -> Result<(), Failure> {
        mount_remount(self.root, FLAGS | MountFlags::RDONLY, c"").because(|| "closing the view")?;
        become_root(self.root)
    }

    /// An empty file to mount over.
    fn place(&self, path: &str) -> Result<std::path::PathBuf, Failure> {
        let at = self.root.join(path);
        let folder = at.parent().unwrap_or(self.root);
        fs::create_dir_all(folder).because(|| format!("showing /{path}"))?;
        fs::write(&at, "").because(|| format!("showing /{path}"))?;
        Ok(at)
    }
}
