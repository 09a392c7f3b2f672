//! Rust: cargo makes the component, for the target wasm32-wasip2.
//!
//! The toolchain is a layer that is the same wherever it is installed. Cargo's registry and what it
//! compiled of dependencies are caches, so that a change of the crate compiles the crate alone.

use berth_buildpack_kit::settings::{Table, Value};
use berth_buildpack_kit::{
    Failure, Step, failure_at, has, info, inventory, layer, layers, log, shell, text, tools, warn,
};
use serde_json::json;

use crate::{COMPONENT, FILE};

/// The installer of toolchains, as a wheel that holds the Rust project's own program.
const RUSTUP: &str = "1.29.0.1";
const RUSTUP_INTEGRITY: &str = "sha256-R8bQGmtUuHMI/imukWM3V/scWGI3Tm3Yl4lVtBG/9+Q=";
const INSTALL: &str = include_str!("rust/install.sh");
const BUILD: &str = include_str!("rust/build.sh");
/// Raised when the recipe of the layer changes.
const RECIPE: u32 = 1;

pub(crate) struct Project {
    version: String,
    /// Hash over the files of the toolchain.
    integrity: String,
    reason: String,
}

impl Project {
    /// Which toolchain the app asks for.
    pub(crate) fn find() -> Result<Self, Failure> {
        if !has("Cargo.toml") {
            return Err(failure_at(
                "no-cargo",
                "berth.toml",
                None,
                "berth.toml says that the app is built from Rust ([wasm] build), but there is no Cargo.toml at the top of the commit.",
            ));
        }
        let (wanted, reason) = wanted()?;
        let entries = inventory::entries("rust", "rust");
        let chosen = entries.iter().find(|entry| match wanted.as_deref() {
            None => true,
            Some(wanted) => {
                entry.version == wanted
                    || entry.version.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
            }
        });
        let Some(chosen) = chosen else {
            let versions: Vec<&str> = entries.iter().map(|entry| entry.version.as_str()).collect();
            let message = format!(
                "{reason}, which is not in the inventory. There are: {}.",
                versions.join(", ")
            );
            return Err(failure_at("no-rust", "rust-toolchain.toml", None, message));
        };
        Ok(Self { version: chosen.version.clone(), integrity: chosen.integrity.clone(), reason })
    }

    /// Builds it and gives the path of the component.
    pub(crate) fn build(self) -> Result<String, Failure> {
        log::header(&format!("Wasm app in Rust {} ({})", self.version, self.reason));
        let locked = has("Cargo.lock");
        if !locked {
            warn(
                "There is no Cargo.lock, so each build may take other versions of the dependencies. Commit the one that cargo made.",
            );
        }
        self.toolchain()?;
        let component = layers::open(COMPONENT, &[])?;
        // An earlier commit may have been built from another language, which keeps it.
        component.clear();
        let made = component.path() + "/" + FILE;
        let options = if locked { "--locked" } else { "" };
        let step = Step::new(&["sh", "-euc", BUILD, "build", options, &made])
            .title(&format!("cargo build --release --target wasm32-wasip2 {options}"))
            .env("CARGO_HOME", "/caches/rust/home")
            .env("CARGO_TARGET_DIR", "/caches/rust/target")
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "never")
            .cache("rust")
            .network("rust")
            .writes(COMPONENT);
        step.run()?.or_fail("cargo", "The lines above are cargo's own and say what to mend.")?;
        Ok(made)
    }

    /// The layer with the toolchain.
    fn toolchain(&self) -> Result<(), Failure> {
        let key = json!({ "recipe": RECIPE, "rust": self.version, "integrity": self.integrity });
        let (layer, same) = layer("rust", &["cache"], &key)?;
        if same {
            info("Rust is kept from the last build");
            return Ok(());
        }
        let wheel = tools::fetch("python", "rustup", RUSTUP, RUSTUP_INTEGRITY)?;
        let (version, integrity) = (&self.version, &self.integrity);
        let script = format!(
            "mkdir /tmp/rustup\n\
             python3 -m zipfile -e {wheel} /tmp/rustup\n\
             program=$(echo /tmp/rustup/*.data/scripts/rustup)\n\
             chmod 0755 \"$program\"\n\
             set -- \"$program\" {version}\n\
             {INSTALL}\n\
             rm -rf /tmp/rustup\n\
             if [ \"$integrity\" != '{integrity}' ]; then\n\
                 echo \"error: the files of this toolchain are not those that the inventory names (their hash is $integrity)\"\n\
                 exit 65\n\
             fi"
        );
        let step = shell(&script)
            .title(&format!("installing Rust {version} for wasm32-wasip2"))
            .inputs(&[])
            .at(&layer.path())
            .cache("python")
            .network("rust")
            .writes("rust");
        step.run()?.or_fail("rust", "The toolchain could not be installed. The lines above say why; if the network failed, push again.")?;
        Ok(())
    }
}

/// The version that the app asks for, and who says so.
fn wanted() -> Result<(Option<String>, String), Failure> {
    for file in ["rust-toolchain.toml", "rust-toolchain"] {
        let Some(text) = text(file)? else { continue };
        let channel = match text.parse::<Table>() {
            Ok(table) => table
                .get("toolchain")
                .and_then(Value::as_table)
                .and_then(|table| table.get("channel"))
                .and_then(Value::as_str)
                .map(str::to_owned),
            // The older form is the name alone.
            Err(_) if file == "rust-toolchain" => Some(text.trim().to_owned()),
            Err(error) => {
                return Err(failure_at(
                    "rust-toolchain",
                    file,
                    None,
                    format!("{file}: {}", error.message()),
                ));
            }
        };
        let Some(channel) = channel else { continue };
        let shown: String = channel.chars().take(40).flat_map(char::escape_default).collect();
        return Ok(match channel.as_str() {
            "stable" => (None, format!("{file} asks for stable")),
            _ => (Some(channel), format!("{file} asks for {shown}")),
        });
    }
    Ok((None, "the newest; a rust-toolchain.toml chooses".to_owned()))
}
