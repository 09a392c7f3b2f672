//! Builds the programs, the guests and the static program for containers, and lays them out in
//! `TARGET/berth` (or `TARGET/berth-release`) as `berthd` expects them: beside it `berth-agent`,
//! `berth-init` and `buildpacks/*.wasm`, and `plugins/*.wasm` for those who install them. Not in
//! cargo's own folder, where a build of the tests would put a `berth-init` for the host over the
//! static one.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{shell, web};

/// How the programs are compiled.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// Quickly; what tests and `up` run.
    Dev,
    /// To be fast; what is measured.
    Release,
}

/// Builds everything and gives the folder of the programs.
pub(crate) fn all(profile: Profile) -> Result<PathBuf> {
    let folder = shell::target().join(match profile {
        Profile::Dev => "berth",
        Profile::Release => "berth-release",
    });
    std::fs::create_dir_all(&folder)?;
    web::build()?;
    programs(&folder, profile)?;
    init(&folder)?;
    guests(&folder)?;
    plugins(&folder)?;
    wasm_samples(&folder)?;
    Ok(folder)
}

fn programs(folder: &Path, profile: Profile) -> Result<()> {
    shell::say(
        "-----> Building berthd, berth-agent and berth (the first time takes a quarter of an hour)",
    );
    let (cargo_profile, built) = match profile {
        Profile::Dev => ("dev", "debug"),
        Profile::Release => ("release", "release"),
    };
    shell::run(shell::command("cargo").args([
        "build",
        "--locked",
        "--profile",
        cargo_profile,
        "-p",
        "berthd",
        "-p",
        "berth-agent",
        "-p",
        "berth",
    ]))?;
    for program in ["berthd", "berth-agent", "berth"] {
        replace(&shell::target().join(built).join(program), &folder.join(program))?;
    }
    Ok(())
}

fn init(folder: &Path) -> Result<()> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    shell::say("-----> Building berth-init, which is static");
    shell::run(shell::command("cargo").args([
        "build",
        "--locked",
        "--release",
        "-p",
        "berth-init",
        "--target",
        TARGET,
    ]))?;
    let built = shell::target().join(TARGET).join("release/berth-init");
    replace(&built, &folder.join("berth-init"))
}

fn guests(folder: &Path) -> Result<()> {
    shell::say("-----> Building the buildpacks");
    shell::run(
        shell::command("cargo")
            .current_dir(shell::root().join("buildpacks"))
            .args(["build", "--locked", "--release", "--target", "wasm32-wasip2"])
            .env("CARGO_TARGET_DIR", shell::target()),
    )?;
    let built = shell::target().join("wasm32-wasip2/release");
    let into = folder.join("buildpacks");
    std::fs::create_dir_all(&into)?;
    for entry in std::fs::read_dir(shell::root().join("buildpacks"))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let file = format!("berth_buildpack_{name}.wasm");
            if built.join(&file).exists() {
                replace(&built.join(file), &into.join(format!("{name}.wasm")))?;
            }
        }
    }
    Ok(())
}

/// The extensions that ship with Berth, each with its manifest inside.
fn plugins(folder: &Path) -> Result<()> {
    shell::say("-----> Building the extensions");
    let workspace = shell::root().join("plugins");
    shell::run(
        shell::command("cargo")
            .current_dir(&workspace)
            .args(["build", "--locked", "--release", "--target", "wasm32-wasip2"])
            .env("CARGO_TARGET_DIR", shell::target()),
    )?;
    let built = shell::target().join("wasm32-wasip2/release");
    let into = folder.join("plugins");
    std::fs::create_dir_all(&into)?;
    for entry in std::fs::read_dir(&workspace)? {
        let manifest = entry?.path().join("extension.toml");
        let Some(name) = manifest.parent().and_then(Path::file_name).and_then(|n| n.to_str())
        else {
            continue;
        };
        if !manifest.exists() {
            continue;
        }
        let file = built.join(format!("berth_plugin_{}.wasm", name.replace('-', "_")));
        let mut component =
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        append_section(&mut component, "berth:extension", &std::fs::read(&manifest)?);
        let to = into.join(format!("{name}.wasm"));
        if std::fs::read(&to).ok().as_ref() != Some(&component) {
            let beside = to.with_extension("new");
            std::fs::write(&beside, &component)?;
            std::fs::rename(&beside, &to)?;
        }
    }
    Ok(())
}

/// A custom section at the end of a component (WebAssembly core specification, 5.5.3).
fn append_section(component: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut body = Vec::new();
    leb128(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    component.push(0);
    leb128(component, body.len());
    component.extend_from_slice(&body);
}

fn leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Copies a file beside its place and renames it, so that a running program keeps its own. A copy
/// with the same bytes stays. Times would not do: where two clones share a target folder, cargo puts
/// an older build back without a new time.
pub(crate) fn replace(from: &Path, to: &Path) -> Result<()> {
    if same(from, to) {
        return Ok(());
    }
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside)
        .and_then(|_| std::fs::rename(&beside, to))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Whether two files can be read and have the same bytes.
fn same(one: &Path, other: &Path) -> bool {
    let equal = || -> std::io::Result<bool> {
        let (one, other) = (File::open(one)?, File::open(other)?);
        if one.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        const BUFFER_BYTES: usize = 1 << 20;
        let mut one = BufReader::with_capacity(BUFFER_BYTES, one);
        let mut other = BufReader::with_capacity(BUFFER_BYTES, other);
        loop {
            let (left, right) = (one.fill_buf()?, other.fill_buf()?);
            let count = left.len().min(right.len());
            if count == 0 {
                return Ok(left.len() == right.len());
            }
            if left[..count] != right[..count] {
                return Ok(false);
            }
            one.consume(count);
            other.consume(count);
        }
    };
    equal().unwrap_or(false)
}

/// Samples of Wasm apps are pushed built, as their users would: `samples/NAME/app.wasm`, with the
/// `berth.toml` where there is one.
fn wasm_samples(folder: &Path) -> Result<()> {
    shell::say("-----> Building the Wasm samples");
    for name in ["wasm-hello", "wasm-powers"] {
        let from = shell::root().join("tests/apps").join(name);
        shell::run(
            shell::command("cargo")
                .current_dir(&from)
                .args(["build", "--locked", "--release", "--target", "wasm32-wasip2"])
                .env("CARGO_TARGET_DIR", shell::target()),
        )?;
        let built = shell::target().join("wasm32-wasip2/release");
        let built = built.join(name.replace('-', "_")).with_extension("wasm");
        let into = folder.join("samples").join(name);
        std::fs::create_dir_all(&into)?;
        replace(&built, &into.join("app.wasm"))?;
        if from.join("berth.toml").exists() {
            replace(&from.join("berth.toml"), &into.join("berth.toml"))?;
        }
    }
    Ok(())
}

/// Copies a sample app as a user would have it.
pub(crate) fn sample(programs: &Path, name: &str, into: &Path) -> Result<()> {
    let built = programs.join("samples").join(name);
    let from = if built.exists() { built } else { shell::root().join("tests/apps").join(name) };
    copy_tree(&from, into)
}

fn copy_tree(from: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)?;
    for entry in
        std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?
    {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &into.join(entry.file_name()))?;
        } else {
            replace(&entry.path(), &into.join(entry.file_name()))?;
        }
    }
    Ok(())
}
