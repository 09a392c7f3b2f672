//! Runs the agent's container tests a second time, in a virtual machine: on Debian's own kernel,
//! with cgroup v2 alone, whatever the kernel and the control groups of this machine are.
//!
//! The machine sees this machine's root file system read-only under a layer of memory, has one
//! disk of its own, no network card, and is gone after the tests. qemu computes every instruction
//! itself (decision 12), so that it works wherever the tests do.

mod kernel;
mod results;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{build, shell};
use kernel::Kernel;
use results::Results;

const QEMU: &str = "qemu-system-x86_64";
const FILE_SERVER: &str = "/usr/lib/qemu/virtiofsd";
const MEMORY: &str = "2048M";
const DISK_BYTES: u64 = 8 << 30;
/// Everything, from the first instruction to the last, ends within this.
const TIME_S_MAX: u32 = 1800;
/// The file server listens within this.
const SERVE_WAIT: Duration = Duration::from_secs(10);
/// Test files that run there: what makes containers and needs no registry.
const TESTS: &[&str] =
    &["root_agent", "root_layers", "root_tool", "root_worker", "root_logfile", "root_process_one"];

/// Modules of theirs that ask of control groups and the kernel nothing, or what others ask too; they
/// have run on this machine, and every test there takes ten times as long.
const SKIPPED: &[&str] = &["commands::", "files::", "refusals::", "volumes::"];

/// Lays the programs out, then `container_tests`.
pub(crate) fn run(filter: &[&str]) -> Result<()> {
    build::all(build::Profile::Dev)?;
    container_tests(filter)
}

/// Builds the tests, boots, runs those whose names match `filter`, and fails unless every one of
/// them passed.
pub(crate) fn container_tests(filter: &[&str]) -> Result<()> {
    let folder = shell::target().join("vm");
    std::fs::create_dir_all(&folder)?;
    let kernel = kernel::find_or_fetch(&folder)?;
    let tests = compile()?;
    let disk = disk(&folder)?;
    let memory_disk = kernel.memory_disk(&folder, &script(&kernel, &tests, filter))?;
    let outcome = boot(&folder, &kernel, &memory_disk, &disk);
    let _ = shell::capture(shell::as_root("rm").arg("-f").arg(&disk));
    let results = outcome?;
    shell::say(&format!("       {}", results.summary()));
    results.judge(tests.len(), filter.is_empty())
}

/// The test programs, compiled here and run there: of the packages that the suites before compiled,
/// so that no dependency is compiled again with other features.
fn compile() -> Result<Vec<PathBuf>> {
    let mut cargo = shell::command("cargo");
    cargo.args(["test", "--quiet", "--locked", "--no-run", "--message-format=json"]);
    cargo.args(["--workspace", "--exclude", "acceptance"]);
    for file in TESTS {
        cargo.args(["--test", file]);
    }
    let text = shell::capture(&mut cargo)?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built: Vec<PathBuf> = messages
        .filter(|message| message["target"]["kind"][0] == "test")
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .collect();
    if built.len() != TESTS.len() {
        bail!("cargo built {} of the test files {TESTS:?}", built.len());
    }
    Ok(built)
}

/// An empty disk with a file system that can bound folders (project quotas).
fn disk(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("disk");
    let file =
        std::fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
    file.set_len(DISK_BYTES)?;
    let features =
        ["-q", "-F", "-O", "quota,project", "-E", "lazy_itable_init=1,quotatype=prjquota"];
    shell::capture(shell::command("/sbin/mkfs.ext4").args(features).arg(&path))?;
    Ok(path)
}

/// What the machine does once its root is there.
fn script(kernel: &Kernel, tests: &[PathBuf], filter: &[&str]) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut script = format!(
        "MODULES={}\nexport BERTH_PROGRAMS={}\nFILTER={}\nSKIPPED={}\n",
        quote(&kernel.modules().display().to_string()),
        quote(&shell::target().join("berth").display().to_string()),
        quote(&filter.join(" ")),
        quote(&skipped(filter).join(" ")),
    );
    script += include_str!("vm/tests.sh");
    for test in tests {
        script += &format!("run {}\n", quote(&test.display().to_string()));
    }
    script + "finish\n"
}

/// What libtest leaves out; nothing when somebody asks for certain tests.
fn skipped(filter: &[&str]) -> Vec<String> {
    let modules = if filter.is_empty() { SKIPPED } else { &[] };
    modules.iter().map(|module| format!("--skip={module}")).collect()
}

fn boot(folder: &Path, kernel: &Kernel, memory_disk: &Path, disk: &Path) -> Result<Results> {
    let socket = folder.join("files.sock");
    let _ = shell::capture(shell::as_root("rm").arg("-f").arg(&socket));
    let mut files = serve_files(&socket)?;
    let begun = Instant::now();
    while !socket.exists() {
        if begun.elapsed() > SERVE_WAIT || files.0.try_wait()?.is_some() {
            bail!("{FILE_SERVER} does not serve this machine's files (package qemu-system-common)");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut machine = start(kernel, memory_disk, disk, &socket)?;
    let console = machine.0.stdout.take().context("the machine has no console")?;
    let mut results = Results::default();
    for line in BufReader::new(console).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        shell::say(&format!("       {line}"));
        results.line(&line);
    }
    let status = machine.0.wait()?;
    // It ends with its only client.
    files.0.wait()?;
    if !status.success() {
        let seconds = begun.elapsed().as_secs();
        bail!("the machine ended with {status} after {seconds} s (at most {TIME_S_MAX} s)");
    }
    Ok(results)
}

/// `timeout` as root, through sudo or not. Dropped, it and what it runs are ended and waited for.
struct Bounded(Child);

impl Drop for Bounded {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // It is root's, and sudo passes on no signal that comes from its own group.
            let mut kill = shell::as_root("kill");
            let _ = shell::capture(kill.args(["-TERM", &self.0.id().to_string()]).process_group(0));
        }
        let _ = self.0.wait();
    }
}

/// A command as root that ends by itself, whatever becomes of us.
fn bounded(program: &str) -> Command {
    let mut command = shell::as_root("timeout");
    command.args(["--kill-after=5", &TIME_S_MAX.to_string(), program]);
    command
}

fn serve_files(socket: &Path) -> Result<Bounded> {
    bounded(FILE_SERVER)
        .arg(format!("--socket-path={}", socket.display()))
        .args(["-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Bounded)
        .with_context(|| format!("starting {FILE_SERVER}"))
}

fn start(kernel: &Kernel, memory_disk: &Path, disk: &Path, socket: &Path) -> Result<Bounded> {
    let mut command = bounded(QEMU);
    // Not "kvm": a nested machine may offer it and yet never run a kernel that was not made for it.
    command.args(["-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "2", "-m", MEMORY]);
    command.args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on")]);
    command.args(["-numa", "node,memdev=memory"]);
    command.args(["-chardev", &format!("socket,id=files,path={}", socket.display())]);
    command.args(["-device", "vhost-user-fs-pci,chardev=files,tag=host"]);
    command.args([
        "-drive",
        &format!("file={},format=raw,if=virtio,cache=unsafe,discard=unmap", disk.display()),
    ]);
    command.args(["-display", "none", "-vga", "none", "-nic", "none", "-serial", "stdio"]);
    command.arg("-no-reboot").arg("-kernel").arg(kernel.image()).arg("-initrd").arg(memory_disk);
    command.args(["-append", "console=ttyS0 loglevel=1 edd=off panic=-1 mitigations=off"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.spawn().map(Bounded).with_context(|| format!("starting {QEMU}"))
}
