//! Lists what `cargo xtask web` built, so that `src/console.rs` embeds it. Without it, the list is
//! empty and nothing of Node is needed.

use std::fmt::Write;
use std::path::{Path, PathBuf};

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let own = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let web = own.join("../../web");
    // A folder that does not exist would count as changed each time.
    if web.join("dist").exists() {
        println!("cargo:rerun-if-changed={}", web.join("dist").display());
    } else {
        println!("cargo:rerun-if-changed={}", own.join("build.rs").display());
    }
    let site = web.join("dist/site");
    let mut files = Vec::new();
    if site.join("index.html").exists() {
        collect(&site, &mut files)?;
    }
    files.sort();
    let mut text = String::from("pub(super) static FILES: &[File] = &[\n");
    for file in &files {
        let path = file.strip_prefix(&site)?.display().to_string();
        let packed = PathBuf::from(format!("{}.gz", file.display()));
        let gzip = match packed.exists() {
            true => format!("Some(include_bytes!({:?}))", packed.canonicalize()?),
            false => "None".to_owned(),
        };
        let whole = file.canonicalize()?;
        writeln!(
            text,
            "File {{ path: {:?}, bytes: include_bytes!({whole:?}), gzip: {gzip} }},",
            format!("/{path}")
        )?;
    }
    text.push_str("];\n");
    writeln!(text, "pub(super) const POLICY: &str = {:?};", policy(&site)?)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("console.rs");
    // The same text again would make the crate be compiled again.
    if std::fs::read_to_string(&out).ok().as_ref() != Some(&text) {
        std::fs::write(out, text)?;
    }
    Ok(())
}

/// Files to serve; those that are another one's packed form go with it.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failed> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_none_or(|ending| ending != "gz" && ending != "br") {
            files.push(path);
        }
    }
    Ok(())
}

/// The content security policy that the page was built with: it names the hash of its one script.
fn policy(site: &Path) -> Result<String, Failed> {
    let Ok(page) = std::fs::read_to_string(site.join("index.html")) else {
        return Ok(String::new());
    };
    let start = "http-equiv=\"content-security-policy\" content=\"";
    let policy = page
        .split_once(start)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(policy, _)| policy.to_owned())
        .ok_or("web/dist/site/index.html has no content security policy; run `cargo xtask web`")?;
    Ok(policy)
}
