//! What the add-ons of this folder share: the bindings of their world, and the options that each of
//! them has. Each has one process, with a port and a volume on `/data`, and one secret.
//!
//! An add-on implements [`Guest`] for a type and ends with
//! `berth_addon_kit::export!(TheType with_types_in berth_addon_kit::bindings);`.

/// Generated from `platform/wit`.
#[allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        inline: "
            package berth:extension;
            world extension {
                import berth:log/log@0.1.0;
                import berth:config/config@0.1.0;
                export berth:addon/provider@0.1.0;
            }
        ",
        path: [
            "../../platform/wit/types",
            "../../platform/wit/log",
            "../../platform/wit/config",
            "../../platform/wit/addon",
        ],
        world: "berth:extension/extension",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "berth_addon_kit::bindings",
    });
}

pub use bindings::export;
pub use bindings::exports::berth::addon::provider::{
    Error, Guest, Process, Request, Secret, Spec, Task, Volume,
};

/// The variable with the secret.
pub const PASSWORD: &str = "PASSWORD";

/// What differs between add-ons of one process.
pub struct Server {
    /// Of the process.
    pub name: &'static str,
    /// The Debian package.
    pub package: &'static str,
    /// The script that starts it.
    pub start: &'static str,
    /// TCP.
    pub port: u16,
    /// MiB.
    pub memory_mib: u32,
    /// Of its volume, MiB.
    pub size_mib: u32,
    /// A variable of its own.
    pub variable: (&'static str, u32),
    /// What an attached app is told.
    pub export: (&'static str, String),
}

/// The description of an add-on of one process.
pub fn spec(server: Server) -> Spec {
    let (variable, value) = server.variable;
    let (export, template) = server.export;
    Spec {
        processes: vec![Process {
            name: server.name.to_owned(),
            packages: vec![server.package.to_owned()],
            command: shell(server.start),
            volumes: vec![Volume {
                name: "data".to_owned(),
                path: "/data".to_owned(),
                size_mib: server.size_mib,
                extra: Vec::new(),
            }],
            port: Some(server.port),
            memory_mib: server.memory_mib,
            extra: Vec::new(),
        }],
        environment: vec![(variable.to_owned(), value.to_string())],
        secrets: vec![Secret { name: PASSWORD.to_owned(), length: 32, extra: Vec::new() }],
        exports: vec![(export.to_owned(), template)],
        extra: Vec::new(),
    }
}

/// A task that runs a script beside the server.
pub fn task(script: &str) -> Task {
    Task { command: shell(script), extra: Vec::new() }
}

/// A command that runs a script.
pub fn shell(script: &str) -> Vec<String> {
    ["bash", "-c", script].map(str::to_owned).to_vec()
}

/// What was chosen; the platform has checked it and put the defaults in.
pub struct Options {
    /// Of its volume, MiB.
    pub size_mib: u32,
    /// MiB.
    pub memory_mib: u32,
}

impl Options {
    /// Those of a request.
    ///
    /// # Errors
    /// The platform put other options in than the manifest names.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let refused = |message: String| Error {
            code: "invalid".to_owned(),
            message,
            retry: false,
            extra: Vec::new(),
        };
        let value: serde_json::Value = serde_json::from_str(&request.options)
            .map_err(|error| refused(format!("the options are no JSON: {error}")))?;
        let number = |name: &str| {
            let number = value[name].as_u64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| refused(format!("the option {name} is missing")))
        };
        Ok(Self { size_mib: number("size-mib")?, memory_mib: number("memory-mib")? })
    }
}
