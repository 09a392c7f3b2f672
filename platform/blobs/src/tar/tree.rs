//! Collects entries in any order and writes them in the one order.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::{Attributes, PATH_BYTES_MAX, Rules, TarError, Writer, Written, check_path};

enum Node<C> {
    Directory(Attributes),
    File(Attributes, u64, C),
    Symlink(Attributes, Vec<u8>),
}

/// A tree in memory whose contents may lie elsewhere: `C` is bytes, an object id, a path…
pub struct Tree<C> {
    /// By the name in the archive, where a directory's ends with a slash.
    nodes: BTreeMap<Vec<u8>, Node<C>>,
}

impl<C> Default for Tree<C> {
    fn default() -> Self {
        Self { nodes: BTreeMap::new() }
    }
}

impl<C> Tree<C> {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory; only those without entries, or with a mode that matters, need be named.
    ///
    /// # Errors
    /// `Path`.
    pub fn directory(&mut self, path: &[u8], attributes: Attributes) -> Result<(), TarError> {
        check_path(path, PATH_BYTES_MAX - 1)?;
        let mut name = path.to_vec();
        name.push(b'/');
        self.nodes.insert(name, Node::Directory(attributes));
        Ok(())
    }

    /// A file of `size` bytes. A later entry of the same path replaces an earlier one.
    ///
    /// # Errors
    /// `Path`.
    pub fn file(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        size: u64,
        content: C,
    ) -> Result<(), TarError> {
        check_path(path, PATH_BYTES_MAX - 1)?;
        self.nodes.insert(path.to_vec(), Node::File(attributes, size, content));
        Ok(())
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// `Path`.
    pub fn symlink(
        &mut self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes,
    ) -> Result<(), TarError> {
        check_path(path, PATH_BYTES_MAX - 1)?;
        self.nodes.insert(path.to_vec(), Node::Symlink(attributes, target.to_vec()));
        Ok(())
    }

    /// Writes the archive; `open` gives the bytes of a file's content.
    ///
    /// # Errors
    /// As [`Writer`]'s methods; `Order` also for a path that is both a directory and a file.
    pub fn write<W: Write, R: Read>(
        self,
        out: W,
        rules: Rules,
        mut open: impl FnMut(C) -> io::Result<R>,
    ) -> Result<(W, Written), TarError> {
        let mut writer = Writer::new(out, rules);
        for (name, node) in self.nodes {
            match node {
                Node::Directory(attributes) => {
                    writer.directory(&name[..name.len() - 1], attributes)?;
                }
                Node::File(attributes, size, content) => {
                    let content = open(content).map_err(|source| TarError::Content {
                        path: super::shown(&name),
                        source,
                    })?;
                    writer.file(&name, attributes, size, content)?;
                }
                Node::Symlink(attributes, target) => {
                    writer.symlink(&name, &target, attributes)?;
                }
            }
        }
        writer.finish()
    }
}
