//! A folder in which an extension is written, and `berth` run in it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The folder of the programs under test.
pub(crate) fn programs() -> PathBuf {
    match std::env::var_os("BERTH_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        // CARGO_TARGET_TMPDIR is TARGET/tmp.
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("berth"),
    }
}

/// The end of a command.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What it printed, when it did what it should.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self.out
    }

    /// All that it said, when it refused.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "{}\n{}", self.out, self.err);
        format!("{}{}", self.out, self.err)
    }
}

/// An extension that is being written; the folder goes with it.
pub(crate) struct Project {
    name: &'static str,
    home: PathBuf,
    /// One run of a test at a time has the folder.
    _lock: File,
}

impl Project {
    /// A folder without anything in it. The same test always has the same one, so that what cargo
    /// keeps of it does not grow with every run.
    fn empty(name: &'static str) -> Self {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("author");
        fs::create_dir_all(&all).unwrap();
        let lock = File::create(all.join(format!("{name}.lock"))).unwrap();
        lock.lock().unwrap();
        let home = all.join(name);
        if home.exists() {
            fs::remove_dir_all(&home).unwrap();
        }
        let project = Self { name, home, _lock: lock };
        fs::create_dir_all(project.home.join("cache/berth")).unwrap();
        // Compiled code is the test's own and goes with it; the languages' tools are the user's.
        let tools = tools();
        fs::create_dir_all(&tools).unwrap();
        std::os::unix::fs::symlink(tools, project.home.join("cache/berth/tools")).unwrap();
        project
    }

    /// What `berth ext new` makes.
    pub(crate) fn new(name: &'static str, kind: &'static str, language: &str) -> Self {
        let project = Self::empty(name);
        let made = ["ext", "new", name, "--kind", kind, "--lang", language];
        project.run_in(&project.home, &made).good();
        project
    }

    /// What `berth buildpack new` makes.
    pub(crate) fn buildpack(name: &'static str) -> Self {
        let project = Self::empty(name);
        project.run_above(&["buildpack", "new", name]).good();
        project
    }

    /// The same, built.
    pub(crate) fn built(name: &'static str, kind: &'static str, language: &str) -> Self {
        let project = Self::new(name, kind, language);
        project.run(&["ext", "build"]).good();
        project
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.home.join(self.name)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder().join(file)
    }

    pub(crate) fn component(&self) -> PathBuf {
        self.path(&format!("{}.wasm", self.name))
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    /// Replaces a text that is there.
    #[track_caller]
    pub(crate) fn edit(&self, file: &str, old: &str, new: &str) {
        let text = self.read(file);
        assert!(text.contains(old), "{file} has no {old:?}:\n{text}");
        self.write(file, &text.replace(old, new));
    }

    /// Runs `berth` in the extension's folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_in(&self.folder(), arguments)
    }

    /// Runs `berth` in the folder above it.
    pub(crate) fn run_above(&self, arguments: &[&str]) -> Ran {
        self.run_in(&self.home, arguments)
    }

    fn run_in(&self, folder: &Path, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        Ran::of(&command.current_dir(folder).output().unwrap())
    }

    /// `berth`, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let program = programs().join("berth");
        assert!(program.is_file(), "{} is missing: cargo xtask build", program.display());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder_or_home())
            .env("XDG_CACHE_HOME", self.home.join("cache"))
            // Dependencies are compiled once for all tests.
            .env("CARGO_TARGET_DIR", rust_target())
            .env_remove("BERTH_SERVER")
            .env_remove("BERTH_TOKEN")
            .stdin(Stdio::null());
        command
    }

    fn folder_or_home(&self) -> PathBuf {
        let folder = self.folder();
        if folder.is_dir() { folder } else { self.home.clone() }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // What cannot be removed is removed by the next run.
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Where cargo puts what it makes of extensions.
pub(crate) fn rust_target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("author/rust")
}

/// Where `berth` keeps the tools of languages.
fn tools() -> PathBuf {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .expect("HOME is set")
        .join("berth/tools")
}
