//! `runc run` of an image, for comparison: the bundle that umoci unpacks, with its usual
//! namespaces, in a network namespace that stands ready before the time begins.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::docker::{folder, output};

/// Both ends of the link; documentation addresses (RFC 5737) that no machine has.
const HERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// An unpacked bundle and a network for it.
pub(crate) struct Runc {
    bundle: PathBuf,
    state: PathBuf,
    network: String,
    number: u32,
}

/// A container that runs.
pub(crate) struct Running {
    id: String,
    child: Child,
}

impl Runc {
    /// Unpacks the image of an OCI layout into `scratch` and makes a network.
    ///
    /// # Errors
    /// When umoci or ip fails.
    pub(crate) fn new(layout: &Path, tag: &str, scratch: &Path) -> Result<Self> {
        let bundle = scratch.join("bundle");
        let image = format!("{}:{tag}", layout.display());
        output(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle))?;
        let network = format!("bench{}", std::process::id());
        let runc = Self {
            bundle,
            state: folder(scratch.join("runc"))?,
            network: network.clone(),
            number: 0,
        };
        let (here, there) = (format!("{HERE}/30"), format!("{THERE}/30"));
        let inside = ["-n", &network];
        for arguments in [
            &["netns", "add", &network][..],
            &["link", "add", &network, "type", "veth", "peer", "name", "eth0", "netns", &network],
            &["address", "add", &here, "dev", &network],
            &["link", "set", &network, "up"],
            &[&inside[..], &["address", "add", &there, "dev", "eth0"]].concat(),
            &[&inside[..], &["link", "set", "eth0", "up"]].concat(),
            &[&inside[..], &["link", "set", "lo", "up"]].concat(),
        ] {
            output(Command::new("ip").args(arguments))?;
        }
        runc.configure()?;
        Ok(runc)
    }

    /// What umoci wrote, without a terminal, with the port and the network.
    fn configure(&self) -> Result<()> {
        let path = self.bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        config["process"]["terminal"] = json!(false);
        let environment = config["process"]["env"].as_array_mut().context("no environment")?;
        environment.push(json!("PORT=5000"));
        let namespaces = config["linux"]["namespaces"].as_array_mut().context("no namespaces")?;
        namespaces.retain(|namespace| namespace["type"] != "network");
        let network = format!("/run/netns/{}", self.network);
        namespaces.push(json!({ "type": "network", "path": network }));
        Ok(std::fs::write(path, serde_json::to_vec(&config)?)?)
    }

    /// Where its containers answer.
    pub(crate) fn address(&self) -> SocketAddr {
        (THERE, 5000).into()
    }

    /// `runc run`.
    ///
    /// # Errors
    /// When runc cannot be started.
    pub(crate) fn run(&mut self) -> Result<Running> {
        self.number += 1;
        let id = format!("{}-{}", self.network, self.number);
        let child = self
            .command()
            .args(["run", "--bundle"])
            .arg(&self.bundle)
            .arg(&id)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.state.with_extension("log"))?)
            .spawn()
            .context("cannot start runc")?;
        Ok(Running { id, child })
    }

    /// Ends a container and waits until runc has cleared up after it.
    ///
    /// # Errors
    /// When runc fails.
    pub(crate) fn end(&self, mut running: Running) -> Result<()> {
        output(self.command().args(["kill", &running.id, "KILL"]))?;
        running.child.wait()?;
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.state);
        command
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        let _ = output(Command::new("ip").args(["netns", "delete", &self.network]));
    }
}
