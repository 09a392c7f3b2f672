//! The room that is kept on the disk of the data folder: nothing new is built into it, so that what
//! runs, its logs and the database can go on.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Section `disk` of the operator's file. The smaller of both must be free for a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskConfig {
    /// Percent of the disk.
    pub free_percent_min: u64,
    /// MiB.
    pub free_mib_min: u64,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { free_percent_min: 10, free_mib_min: 2048 }
    }
}

/// The disk of a data folder.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    config: DiskConfig,
}

/// What of a disk is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Bytes that are free.
    pub bytes: u64,
    /// Bytes that must be.
    pub bytes_min: u64,
    /// Percent that is free.
    pub percent: u64,
}

impl Free {
    fn of(total: u64, bytes: u64, config: DiskConfig) -> Self {
        let share = total / 100 * config.free_percent_min;
        let percent = bytes.checked_div(total / 100).unwrap_or(0);
        Self { bytes, bytes_min: share.min(config.free_mib_min << 20), percent }
    }

    /// Whether there is room for something new.
    pub fn is_enough(&self) -> bool {
        self.bytes >= self.bytes_min
    }
}

impl Disk {
    /// The disk that `folder` is on.
    pub fn of(folder: &Path, config: DiskConfig) -> Self {
        Self { folder: folder.to_owned(), config }
    }

    /// Its data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is free of it now.
    ///
    /// # Errors
    /// The file system's.
    pub fn free(&self) -> std::io::Result<Free> {
        let found = rustix::fs::statvfs(&self.folder)?;
        Ok(Free::of(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, self.config))
    }

    /// Refuses a build where there is no room for one. A disk that cannot be looked at is no
    /// reason: the build says better what is wrong.
    ///
    /// # Errors
    /// In words for whoever pushes.
    pub fn room(&self) -> Result<(), String> {
        match self.free() {
            Ok(free) if !free.is_enough() => Err(format!(
                "The platform's disk is full: {} MiB are free of the {} MiB that are kept for what \
                 runs. Nothing was built, and what runs goes on. Free some space, then push again.",
                free.bytes >> 20,
                free.bytes_min >> 20
            )),
            Err(error) => {
                tracing::warn!("cannot look at the disk of {}: {error}", self.folder.display());
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_share_and_size_is_kept() {
        let config = DiskConfig::default();
        let free = |total_gib: u64, mib: u64| Free::of(total_gib << 30, mib << 20, config);
        assert!(!free(100, 2047).is_enough() && free(100, 2048).is_enough());
        assert!(!free(10, 1023).is_enough() && free(10, 1024).is_enough());
        assert_eq!(free(100, 51_200).percent, 50);
        assert!(Free::of(0, 0, config).is_enough(), "a disk without a size says nothing");
    }
}
