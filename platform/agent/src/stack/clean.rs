//! Takes out what differs from one making to the next, or belongs to the machine that made it, and
//! adds the app's user.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{Because, Failure};
use crate::run_wire::APP_USER;

/// Folders that are emptied.
const EMPTIED: [&str; 13] = [
    "boot",
    // Made while packages are set up: a private key, and clusters of a database.
    "etc/postgresql",
    "etc/ssl/private",
    "var/lib/postgresql",
    "dev",
    "run",
    "tmp",
    "var/backups",
    "var/cache",
    "var/lib/apt",
    "var/log",
    "var/tmp",
    "usr/share/info",
];
/// Files that are removed.
const REMOVED: [&str; 16] = [
    "etc/.pwd.lock",
    "etc/apt/sources.list",
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/machine-id",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
];
/// Days since 1970 of the fixed date: when each account's password was last changed.
const DAY: u64 = berth_blobs::tar::MTIME_S / 86_400;

/// Works on the root file system at `root`, which is this process's own root: no link leads out.
pub(super) fn clean(root: &Path) -> Result<(), Failure> {
    for folder in EMPTIED {
        empty(&root.join(folder)).because(|| format!("emptying /{folder}"))?;
    }
    for file in REMOVED.iter().chain(&["var/lib/dpkg/status-old", "var/lib/dpkg/triggers/Lock"]) {
        match fs::remove_file(root.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).because(|| format!("removing /{file}"));
            }
            _ => {}
        }
    }
    remove_certificate(root).because(|| "removing a certificate of this making")?;
    date_passwords(root).because(|| "writing /etc/shadow")?;
    add_user(root).because(|| "adding the app's user")?;
    for folder in ["usr/lib", "usr/share"] {
        remove_bytecode(&root.join(folder)).because(|| format!("cleaning /{folder}"))?;
    }
    compile(root)
}

fn empty(folder: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The package `ssl-cert` makes one for the machine that it is set up on, and links it by its hash.
fn remove_certificate(root: &Path) -> io::Result<()> {
    const NAME: &str = "ssl-cert-snakeoil.pem";
    let folder = root.join("etc/ssl/certs");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let is_own = path.file_name().is_some_and(|name| name == NAME);
        if is_own || fs::read_link(&path).is_ok_and(|to| to == Path::new(NAME)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The third field is the day of the making.
fn date_passwords(root: &Path) -> io::Result<()> {
    let path = root.join("etc/shadow");
    // Without the package `passwd` there is none.
    let Some(text) = read_optional(&path)? else { return Ok(()) };
    let dated: String = text
        .lines()
        .map(|line| {
            let mut fields: Vec<&str> = line.split(':').collect();
            let day = DAY.to_string();
            if let Some(field) = fields.get_mut(2).filter(|field| !field.is_empty()) {
                *field = &day;
            }
            format!("{}\n", fields.join(":"))
        })
        .collect();
    fs::write(path, dated)
}

/// Programs that ask who they are should get an answer.
fn add_user(root: &Path) -> io::Result<()> {
    let append = |file: &str, line: String| {
        let path = root.join(file);
        let Some(text) = read_optional(&path)? else { return Ok(()) };
        fs::write(path, format!("{text}{line}\n"))
    };
    append("etc/passwd", format!("app:x:{APP_USER}:{APP_USER}::/workspace:/bin/bash"))?;
    append("etc/group", format!("app:x:{APP_USER}:"))?;
    append("etc/shadow", format!("app:!:{DAY}::::::"))
}

fn read_optional(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Compiled Python holds the time of its source, which every layer loses.
fn remove_bytecode(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        if entry.file_name() == "__pycache__" {
            fs::remove_dir_all(entry.path())?;
        } else {
            remove_bytecode(&entry.path())?;
        }
    }
    Ok(())
}

/// Compiled again in the form that looks at no time: an app's first start is faster by it, and it
/// could not keep its own.
fn compile(root: &Path) -> Result<(), Failure> {
    if !root.join("usr/bin/python3").exists() {
        return Ok(());
    }
    let output = Command::new("/usr/bin/python3")
        .args(["-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"])
        // The tests of the standard library and of packages are not worth their space.
        .args(["-x", "/(test|tests|lib2to3)/"])
        .args(["/usr/lib/python3.11", "/usr/lib/python3"])
        .env_clear()
        .env("PATH", crate::PROGRAM_PATH)
        .env("PYTHONHASHSEED", "0")
        // A pipe: there is no /dev/null in here.
        .stdin(Stdio::piped())
        .output()
        .because(|| "starting the stack's Python")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let said: String = said.trim().chars().take(600).collect();
    Err(Failure::machine(format!("compiling the stack's Python library failed: {said}")))
}
