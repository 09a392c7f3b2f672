//! Named volumes: folders of an app that outlive its instances, releases and restarts.
//!
//! A volume belongs to one process type of one app and is mounted by one instance at a time, so a
//! process that mounts one runs once and is replaced by stopping it first. Commands that run beside
//! the instances (`run`, the release phase) do not mount it. It is removed only when somebody asks
//! for it by its name.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AppId, ProcessName, VolumeId, VolumeName};

/// Most volumes of one app.
pub const VOLUMES_MAX: usize = 16;
/// The size of a volume where nobody says one.
pub const SIZE_MIB_DEFAULT: u32 = 1024;
/// Smallest volume: a file system with a journal needs some room for itself.
pub const SIZE_MIB_MIN: u32 = 16;
/// Largest volume, 1 TiB.
pub const SIZE_MIB_MAX: u32 = 1 << 20;

/// A volume as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id; never used again.
    pub id: VolumeId,
    /// Whose it is.
    pub app: AppId,
    /// Its name, unique in the app.
    pub name: VolumeName,
    /// The process type that mounts it.
    pub process: ProcessName,
    /// Where the process finds it.
    pub path: MountPath,
    /// What it may hold, MiB.
    pub size_mib: u32,
    /// An instance ran with it: its disk exists, and is never made anew.
    pub made: bool,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// The processes that mount a volume: never two instances of one of them at a time.
pub fn alone(volumes: &[Volume]) -> BTreeSet<ProcessName> {
    volumes.iter().map(|volume| volume.process.clone()).collect()
}

/// A folder in a container where a volume may be mounted: absolute, in its simplest form, and not
/// over what the system, the image or the platform needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountPath(String);

/// A text that is no [`MountPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountPathError {
    /// Not of the form.
    #[error(
        "'{0}' is not a folder for a volume: write an absolute path such as /data, of letters, \
         digits and . _ - @ +, without '..', 255 bytes at most"
    )]
    Form(String),
    /// Something else is there.
    #[error(
        "a volume at '{0}' would hide what the system, the app's image or the platform needs; \
         choose a folder such as /data, /var/lib/NAME or /workspace/NAME"
    )]
    System(String),
}

/// Nothing is mounted here or below.
const SYSTEM: [&str; 15] = [
    "/.berth", "/bin", "/boot", "/cnb", "/dev", "/etc", "/layers", "/lib", "/lib32", "/lib64",
    "/libx32", "/proc", "/run", "/sbin", "/sys",
];
/// Nothing is mounted here or below, but for `/usr/local/…`.
const USR: &str = "/usr";
/// Nothing is mounted exactly here.
const SHARED: [&str; 6] =
    ["/usr/local", "/var", "/var/lib", "/var/run", "/var/lib/dpkg", "/workspace"];

impl MountPath {
    /// The path as text; it begins with `/` and does not end with one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether one of both lies in the other, or they are the same.
    pub fn overlaps(&self, other: &Self) -> bool {
        is_at_or_below(&self.0, &other.0) || is_at_or_below(&other.0, &self.0)
    }
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl FromStr for MountPath {
    type Err = MountPathError;

    fn from_str(text: &str) -> Result<Self, MountPathError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+".contains(&byte);
        let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
        let simple = text.len() <= 255
            && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part));
        if !simple {
            return Err(MountPathError::Form(
                text.chars().take(80).flat_map(char::escape_default).collect(),
            ));
        }
        let usr = is_at_or_below(text, USR) && !text.starts_with("/usr/local/");
        let system = SYSTEM.iter().any(|folder| is_at_or_below(text, folder));
        if usr || system || SHARED.contains(&text) {
            return Err(MountPathError::System(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for MountPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MountPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_mounted_where_it_hides_nothing() {
        for good in
            ["/data", "/var/lib/postgresql", "/workspace/uploads", "/srv/a.b/c-d_e", "/usr/local/x"]
        {
            assert_eq!(good.parse::<MountPath>().unwrap().as_str(), good);
        }
        for bad in [
            "/etc",
            "/etc/app",
            "/proc/1",
            "/sys",
            "/dev/shm",
            "/usr",
            "/usr/lib",
            "/bin",
            "/lib/x",
            "/workspace",
            "/var",
            "/var/lib",
            "/usr/local",
            "/layers/python",
            "/.berth/init",
            "/run/x",
        ] {
            let refused = bad.parse::<MountPath>();
            assert!(matches!(refused, Err(MountPathError::System(_))), "{bad}");
        }
    }

    #[test]
    fn a_path_that_is_not_absolute_and_simple_is_refused() {
        for bad in [
            "",
            "/",
            "data",
            "./data",
            "/data/",
            "//data",
            "/data//x",
            "/data/../etc",
            "/data/.",
            "/da ta",
            "/data\n",
            "/d\u{e4}ta",
            "/data,ro",
            "/data:x",
            &format!("/{}", "d".repeat(255)),
        ] {
            let refused = bad.parse::<MountPath>();
            assert!(matches!(refused, Err(MountPathError::Form(_))), "{bad}");
        }
    }

    #[test]
    fn paths_overlap_when_one_lies_in_the_other() {
        let path = |text: &str| text.parse::<MountPath>().unwrap();
        assert!(path("/data").overlaps(&path("/data")));
        assert!(path("/data").overlaps(&path("/data/x")));
        assert!(path("/data/x").overlaps(&path("/data")));
        assert!(!path("/data").overlaps(&path("/database")));
    }
}
