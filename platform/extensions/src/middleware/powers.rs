//! The host powers of a middleware: what an extension is granted is decided at its installation,
//! and again in each call here. None of them waits for anything.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use wasmtime::component::Resource;

use super::calls::State;
use super::counters::{KEY_BYTES_MAX, WINDOW_MS};
use super::wit::berth::{clock, config, counters, log, metrics, secrets, types};
use crate::limits::{Fault, Stopped};
use crate::lines::{LINE_BYTES_MAX, printable};

use types::types::Error;

/// A secret that was opened: the place of its value, never the value.
#[expect(unreachable_pub, reason = "the macro re-exports it from a module that is private too")]
pub struct Secret {
    name: String,
}

fn error(code: &str, message: String) -> Error {
    Error { code: code.to_owned(), message, retry: false, extra: Vec::new() }
}

impl State {
    /// What a capability that was not granted answers, and the count of it.
    fn denied(&self, what: &str) -> Error {
        self.shared.note_denied();
        let extension = &self.shared.config.extension;
        error("denied", format!("{extension} was not granted {what}"))
    }

    fn value(&self, secret: &Secret) -> &[u8] {
        self.shared.secret(&secret.name).unwrap_or_default()
    }
}

impl log::log::Host for State {
    fn line(&mut self, level: String, text: String) -> wasmtime::Result<()> {
        self.counted()?;
        if !self.sandbox.meter.count_output(text.len()) {
            return Err(Stopped(Fault::Output).into());
        }
        let level = match level.as_str() {
            "warning" | "error" | "debug" => level.as_str(),
            _ => "info",
        };
        self.shared.line(level, &printable(&text, LINE_BYTES_MAX));
        Ok(())
    }
}

impl types::types::Host for State {}

impl config::config::Host for State {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.counted()?;
        Ok(self.shared.config.config.get(&name).map(ToString::to_string))
    }

    fn document(&mut self) -> wasmtime::Result<String> {
        self.counted()?;
        Ok(self.shared.config.config.to_string())
    }
}

impl secrets::secrets::HostSecret for State {
    fn name(&mut self, at: Resource<Secret>) -> wasmtime::Result<String> {
        self.counted()?;
        Ok(self.sandbox.table.get(&at)?.name.clone())
    }

    fn hmac_sha256(&mut self, at: Resource<Secret>, data: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
        self.counted()?;
        let secret = self.sandbox.table.get(&at)?;
        Ok(sign(self.value(secret), &data).finalize().into_bytes().to_vec())
    }

    fn equals(&mut self, at: Resource<Secret>, bytes: Vec<u8>) -> wasmtime::Result<bool> {
        self.counted()?;
        let secret = self.sandbox.table.get(&at)?;
        // Their MACs are compared: that takes the same time whatever differs, lengths too.
        let theirs = sign(b"berth", &bytes).finalize().into_bytes();
        Ok(sign(b"berth", self.value(secret)).verify(&theirs).is_ok())
    }

    fn drop(&mut self, at: Resource<Secret>) -> wasmtime::Result<()> {
        self.sandbox.table.delete(at)?;
        Ok(())
    }
}

fn sign(key: &[u8], data: &[u8]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    if key.len() > block.len() {
        use sha2::Digest as _;
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into());
    mac.update(data);
    mac
}

impl secrets::secrets::Host for State {
    fn open(&mut self, name: String) -> wasmtime::Result<Result<Resource<Secret>, Error>> {
        self.counted()?;
        if !self.shared.config.capabilities.may_use_secret(&name) {
            return Ok(Err(self.denied(&format!("the secret {}", printable(&name, 80)))));
        }
        if self.shared.secret(&name).is_none() {
            return Ok(Err(error("not-found", format!("the secret {name} was not set"))));
        }
        Ok(Ok(self.sandbox.table.push(Secret { name })?))
    }
}

impl secrets::reader::Host for State {
    fn reveal(&mut self, at: Resource<Secret>) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        self.counted()?;
        let secret = self.sandbox.table.get(&at)?;
        if self.shared.config.capabilities.may_read_secret(&secret.name) {
            return Ok(Ok(self.value(secret).to_vec()));
        }
        let what = format!("to read the secret {}", secret.name);
        Ok(Err(self.denied(&what)))
    }
}

impl counters::counters::Host for State {
    fn add(
        &mut self,
        key: String,
        amount: u64,
        window_ms: u64,
    ) -> wasmtime::Result<Result<counters::counters::Count, Error>> {
        self.counted()?;
        if self.shared.config.capabilities.counters.is_none() {
            return Ok(Err(self.denied("counters")));
        }
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !WINDOW_MS.contains(&window_ms) {
            return Ok(Err(error(
                "invalid",
                format!("a key has 1 to {KEY_BYTES_MAX} bytes, a window 1 s to 1 h"),
            )));
        }
        let (value, resets_in_ms) = self.shared.count(&key, amount, window_ms);
        Ok(Ok(counters::counters::Count { value, resets_in_ms }))
    }
}

impl clock::clock::Host for State {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        self.counted()?;
        if self.shared.config.capabilities.clock.is_none() {
            // The interface has no error: time stands still for whoever was not granted it.
            self.shared.note_denied();
            return Ok(0);
        }
        Ok(super::unix_ms().unsigned_abs())
    }
}

impl metrics::metrics::Host for State {
    fn add(
        &mut self,
        name: String,
        amount: f64,
        labels: Vec<(String, String)>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.measure(name, amount, labels, true)
    }

    fn set(
        &mut self,
        name: String,
        value: f64,
        labels: Vec<(String, String)>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.measure(name, value, labels, false)
    }
}

impl State {
    fn measure(
        &mut self,
        name: String,
        value: f64,
        labels: Vec<(String, String)>,
        adds: bool,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.counted()?;
        if self.shared.config.capabilities.metrics.is_none() {
            return Ok(Err(self.denied("metrics")));
        }
        Ok(self
            .shared
            .measure(name, value, labels, adds)
            .map_err(|reason| error("invalid", reason)))
    }
}
