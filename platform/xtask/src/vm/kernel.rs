//! Debian's kernel for virtual machines: its package is unpacked, not installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The package that names the newest one.
const NEWEST: &str = "linux-image-cloud-amd64";
/// What the first program must load before it has a root file system; the rest comes from there.
const FIRST_MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "virtiofs", "overlay"];

/// A kernel and its modules.
pub(super) struct Kernel {
    folder: PathBuf,
    version: String,
}

/// The kernel in `folder`, fetched when it is not there.
pub(super) fn find_or_fetch(folder: &Path) -> Result<Kernel> {
    let own = folder.join("kernel");
    if let Some(kernel) = find(&own) {
        return Ok(kernel);
    }
    shell::step("Fetching a kernel", || fetch(folder, &own))?;
    find(&own).with_context(|| format!("there is no kernel in {}", own.display()))
}

fn find(folder: &Path) -> Option<Kernel> {
    let entries = std::fs::read_dir(folder.join("lib/modules")).ok()?;
    let version = entries.flatten().find_map(|entry| entry.file_name().into_string().ok())?;
    Some(Kernel { folder: folder.to_path_buf(), version })
}

fn fetch(folder: &Path, own: &Path) -> Result<()> {
    let fresh = folder.join("kernel.new");
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir_all(&fresh)?;
    let in_fresh = |command: &mut Command| shell::capture(command.current_dir(&fresh));
    let wanted = || -> Result<String> {
        let text = in_fresh(shell::command("apt-cache").args(["depends", NEWEST]))?;
        let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        name.map(str::to_owned).with_context(|| format!("no package list has {NEWEST}"))
    };
    let download =
        || wanted().and_then(|name| in_fresh(shell::command("apt-get").args(["download", &name])));
    if download().is_err() {
        // The lists may be older than what the mirror has.
        shell::capture(shell::as_root("apt-get").args(["update", "-q"]))?;
        download()?;
    }
    let package = std::fs::read_dir(&fresh)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .with_context(|| format!("apt-get left no package in {}", fresh.display()))?;
    in_fresh(shell::command("dpkg").arg("-x").arg(&package).arg(&fresh))?;
    std::fs::remove_file(&package)?;
    let kernel = find(&fresh).context("the package has no kernel")?;
    in_fresh(shell::command("/sbin/depmod").arg("-b").arg(&fresh).arg(&kernel.version))?;
    let _ = std::fs::remove_dir_all(own);
    std::fs::rename(&fresh, own).with_context(|| format!("naming {}", own.display()))
}

impl Kernel {
    /// The file that is booted.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.version))
    }

    /// The folder of its modules.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.version)
    }

    /// Packs what the machine starts with: a shell, the first modules, and the two scripts.
    pub(super) fn memory_disk(&self, folder: &Path, tests: &str) -> Result<PathBuf> {
        let tree = folder.join("memory-disk");
        let _ = std::fs::remove_dir_all(&tree);
        std::fs::create_dir_all(tree.join("bin"))?;
        std::fs::create_dir_all(tree.join("modules"))?;
        std::fs::copy("/bin/busybox", tree.join("bin/busybox"))?;
        for (index, module) in self.first_modules()?.iter().enumerate() {
            std::fs::copy(module, tree.join("modules").join(format!("{index:02}.ko")))
                .with_context(|| format!("copying {}", module.display()))?;
        }
        std::fs::write(tree.join("init"), include_str!("init.sh"))?;
        std::fs::write(tree.join("tests.sh"), tests)?;
        let packed = folder.join("memory-disk.cpio");
        let line = "chmod 755 init && find . | /bin/busybox cpio -o -H newc > ../memory-disk.cpio";
        shell::capture(shell::command("sh").args(["-c", line]).current_dir(&tree))?;
        Ok(packed)
    }

    /// Files of the first modules, each after those that it needs.
    fn first_modules(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = Vec::new();
        for name in FIRST_MODULES {
            let text = shell::capture(
                shell::command("/sbin/modprobe").arg("-d").arg(&self.folder).args([
                    "-S",
                    &self.version,
                    "--show-depends",
                    name,
                ]),
            )?;
            for file in text.lines().filter_map(|line| line.trim().strip_prefix("insmod ")) {
                let file = PathBuf::from(file);
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        if files.is_empty() {
            bail!("the kernel in {} has none of {FIRST_MODULES:?}", self.folder.display());
        }
        Ok(files)
    }
}
