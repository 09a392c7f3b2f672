//! The host functions of the powers: each is counted, judged, bounded and handed to the host.

mod requests;

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::secrets::Secret;
use super::wit::berth::{
    clock::clock, config::config, counters::counters, events::events, http_out::http_out, kv::kv,
    log::log, metrics::metrics, secrets::reader, secrets::secrets, types::types,
};
use super::{Failure, Level, Measure, MeasureValue, PowerError, Session};
use crate::limits::{Fault, Guest, Sandbox, Stopped};
use crate::lines::{LINE_BYTES_MAX, printable};

const KEY_BYTES_MAX: usize = 256;
const KEYS_MAX: u32 = 1_000;
const WINDOW_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;
const LABELS_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 64;
/// Payload of an event.
const EVENT_BYTES_MAX: usize = 64 * 1024;

/// State of an extension's store.
pub(crate) struct State {
    pub(crate) sandbox: Sandbox,
    pub(crate) session: Session,
}

impl Guest for State {
    fn sandbox(&mut self) -> &mut Sandbox {
        &mut self.sandbox
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.sandbox.view()
    }
}

/// A linker with WASI's floor, `log`, `config` and these interfaces alone.
pub(crate) fn link(engine: &Engine, interfaces: &[&str]) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let linker_mut = &mut linker;
    wasmtime_wasi::p2::add_to_linker_async(linker_mut)?;
    types::add_to_linker::<_, HasSelf<State>>(linker_mut, |state| state)?;
    log::add_to_linker::<_, HasSelf<State>>(linker_mut, |state| state)?;
    config::add_to_linker::<_, HasSelf<State>>(linker_mut, |state| state)?;
    for interface in interfaces {
        match *interface {
            "berth:kv/kv@0.1.0" => kv::add_to_linker::<_, HasSelf<State>>(linker_mut, |s| s)?,
            "berth:secrets/secrets@0.1.0" => {
                secrets::add_to_linker::<_, HasSelf<State>>(linker_mut, |s| s)?;
            }
            "berth:secrets/reader@0.1.0" => {
                reader::add_to_linker::<_, HasSelf<State>>(linker_mut, |s| s)?;
            }
            "berth:http-out/http-out@0.1.0" => {
                http_out::add_to_linker::<_, HasSelf<State>>(linker_mut, |s| s)?;
            }
            "berth:counters/counters@0.1.0" => {
                counters::add_to_linker::<_, HasSelf<State>>(linker_mut, |s| s)?;
            }
            "berth:events/events@0.1.0" => {
                events::add_to_linker::<_, HasSelf<State>>(linker_mut, |s| s)?;
            }
            "berth:clock/clock@0.1.0" => {
                clock::add_to_linker::<_, HasSelf<State>>(linker_mut, |s| s)?;
            }
            "berth:metrics/metrics@0.1.0" => {
                metrics::add_to_linker::<_, HasSelf<State>>(linker_mut, |s| s)?;
            }
            _ => {}
        }
    }
    Ok(linker)
}

impl State {
    /// Counts a call, and what the guest hands over in it.
    fn counted(&self, bytes: usize) -> Result<(), PowerError> {
        if !self.sandbox.meter.count_host_call() {
            return Err(PowerError::Ended(Stopped(Fault::HostCalls).into()));
        }
        if bytes > self.sandbox.meter.limits().call_bytes_max as usize {
            return Err(PowerError::failure("too-large", "too much for one call", false));
        }
        Ok(())
    }

    /// Answers what was not granted, and tells.
    fn denied(&self, capability: &'static str, what: &str) -> PowerError {
        let what = printable(what, 200);
        self.session.host.denied(capability, &what);
        PowerError::failure(
            "denied",
            format!("the capability '{capability}' was not granted to this extension: {what}"),
            false,
        )
    }

    fn key(&self, key: &str, capability: &'static str) -> Result<(), PowerError> {
        let granted = match capability {
            "kv" => self.session.allowed.both(|set| set.kv.is_some()),
            _ => self.session.allowed.both(|set| set.counters.is_some()),
        };
        if !granted {
            return Err(self.denied(capability, key));
        }
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(PowerError::failure("invalid", "a key has 1 to 256 bytes", false));
        }
        Ok(())
    }

    fn measure(
        &self,
        name: String,
        labels: Vec<(String, String)>,
        value: MeasureValue,
    ) -> Result<(), PowerError> {
        self.counted(0)?;
        if !self.session.allowed.both(|set| set.metrics.is_some()) {
            return Err(self.denied("metrics", &name));
        }
        let named = |text: &str| {
            (1..=NAME_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                && !text.as_bytes()[0].is_ascii_digit()
        };
        let finite = match value {
            MeasureValue::Added(by) => by.is_finite() && by >= 0.0,
            MeasureValue::Set(to) => to.is_finite(),
        };
        if !named(&name) || labels.len() > LABELS_MAX || !finite {
            let text = "a measure has a name of lower-case letters, digits and _, at most 8 labels \
                        and a finite value, which does not fall when it is added";
            return Err(PowerError::failure("invalid", text, false));
        }
        if labels.iter().any(|(key, text)| !named(key) || text.len() > NAME_BYTES_MAX) {
            return Err(PowerError::failure("invalid", "a label is longer than 64 bytes", false));
        }
        let mut labels: Vec<_> =
            labels.into_iter().map(|(key, text)| (key, printable(&text, 64))).collect();
        labels.sort();
        self.session.host.measure(Measure { name, labels, value })
    }

    async fn opened(&mut self, name: String) -> Result<Resource<Secret>, PowerError> {
        self.counted(name.len())?;
        if !self.session.allowed.both(|set| set.may_use_secret(&name)) {
            return Err(self.denied("secrets", &name));
        }
        let Some(value) = self.session.host.secret(&name).await? else {
            let text =
                format!("the secret '{}' is not set; the operator sets it", printable(&name, 80));
            return Err(PowerError::failure("not-found", text, false));
        };
        let bytes = value.0.len();
        self.keep(Secret { name, value }, bytes)
    }

    /// Puts something of so many bytes into the table. It counts as memory of the guest, which
    /// decides how much of it there is.
    fn keep<T: Send + 'static>(
        &mut self,
        entry: T,
        bytes: usize,
    ) -> Result<Resource<T>, PowerError> {
        self.recharge(0, bytes)?;
        let kept = self.sandbox.table.push(entry);
        // Nothing but a full table refuses.
        kept.map_err(|_| PowerError::Ended(Stopped(Fault::Memory).into()))
    }

    /// Notes that what is kept for the guest has another size.
    fn recharge(&mut self, before: usize, after: usize) -> Result<(), PowerError> {
        self.sandbox.memory.release(before as u64);
        if self.sandbox.memory.hold(after as u64) {
            Ok(())
        } else {
            Err(PowerError::Ended(Stopped(Fault::Memory).into()))
        }
    }
}

/// The error that ends the guest, of a function that has no error of its own.
fn ended(error: PowerError) -> wasmtime::Error {
    match error {
        PowerError::Ended(error) => match error.downcast::<Stopped>() {
            Ok(stopped) => (*stopped).into(),
            Err(error) => PowerError::Ended(error).into(),
        },
        failure @ PowerError::Failure(_) => failure.into(),
    }
}

fn table(error: wasmtime::component::ResourceTableError) -> PowerError {
    PowerError::Ended(error.into())
}

impl types::Host for State {
    fn convert_error(&mut self, error: PowerError) -> wasmtime::Result<Failure> {
        match error {
            PowerError::Failure(failure) => Ok(failure),
            broken => Err(ended(broken)),
        }
    }
}

impl log::Host for State {
    async fn line(&mut self, level: String, text: String) -> wasmtime::Result<()> {
        self.counted(0).map_err(ended)?;
        if !self.sandbox.meter.count_output(text.len()) {
            return Err(Stopped(Fault::Output).into());
        }
        // One line, whatever is in it: another would look like one of the platform's own.
        let text = berth_model::text::printable(&text, LINE_BYTES_MAX);
        self.session.host.log(Level::of(&level), &text);
        Ok(())
    }
}

impl config::Host for State {
    async fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.counted(name.len()).map_err(ended)?;
        Ok(self.session.config.get(&name).map(ToString::to_string))
    }

    async fn document(&mut self) -> wasmtime::Result<String> {
        self.counted(0).map_err(ended)?;
        Ok(self.session.config.to_string())
    }
}

impl kv::Host for State {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, PowerError> {
        self.counted(key.len())?;
        self.key(&key, "kv")?;
        self.session.host.kv_get(&key).await
    }

    async fn put(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Result<(), PowerError> {
        self.counted(key.len() + value.len())?;
        self.key(&key, "kv")?;
        self.session.host.kv_put(&key, value, ttl_ms, false).await.map(|_| ())
    }

    async fn put_if_absent(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Result<bool, PowerError> {
        self.counted(key.len() + value.len())?;
        self.key(&key, "kv")?;
        self.session.host.kv_put(&key, value, ttl_ms, true).await
    }

    async fn remove(&mut self, key: String) -> Result<bool, PowerError> {
        self.counted(key.len())?;
        self.key(&key, "kv")?;
        self.session.host.kv_remove(&key).await
    }

    async fn keys(&mut self, prefix: String, count_max: u32) -> Result<Vec<String>, PowerError> {
        self.counted(prefix.len())?;
        if !self.session.allowed.both(|set| set.kv.is_some()) {
            return Err(self.denied("kv", &prefix));
        }
        self.session.host.kv_keys(&prefix, count_max.min(KEYS_MAX)).await
    }
}

impl secrets::Host for State {
    async fn open(&mut self, name: String) -> Result<Resource<Secret>, PowerError> {
        self.opened(name).await
    }
}

impl secrets::HostSecret for State {
    async fn name(&mut self, secret: Resource<Secret>) -> wasmtime::Result<String> {
        self.counted(0).map_err(ended)?;
        Ok(self.sandbox.table.get(&secret)?.name.clone())
    }

    async fn hmac_sha256(
        &mut self,
        secret: Resource<Secret>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Vec<u8>> {
        self.counted(data.len()).map_err(ended)?;
        Ok(self.sandbox.table.get(&secret)?.value.hmac_sha256(&data))
    }

    async fn equals(&mut self, secret: Resource<Secret>, bytes: Vec<u8>) -> wasmtime::Result<bool> {
        self.counted(bytes.len()).map_err(ended)?;
        Ok(self.sandbox.table.get(&secret)?.value.equals(&bytes))
    }

    async fn drop(&mut self, secret: Resource<Secret>) -> wasmtime::Result<()> {
        let secret = self.sandbox.table.delete(secret)?;
        self.sandbox.memory.release(secret.value.0.len() as u64);
        Ok(())
    }
}

impl reader::Host for State {
    async fn reveal(&mut self, secret: Resource<Secret>) -> Result<Vec<u8>, PowerError> {
        self.counted(0)?;
        let secret = self.sandbox.table.get(&secret).map_err(table)?;
        if !self.session.allowed.both(|set| set.may_read_secret(&secret.name)) {
            return Err(self.denied("secrets-read", &secret.name));
        }
        Ok(secret.value.0.clone())
    }
}

impl counters::Host for State {
    async fn add(
        &mut self,
        key: String,
        amount: u64,
        window_ms: u64,
    ) -> Result<counters::Count, PowerError> {
        self.counted(key.len())?;
        self.key(&key, "counters")?;
        if !WINDOW_MS.contains(&window_ms) {
            return Err(PowerError::failure("invalid", "a window has 1 s to 1 h", false));
        }
        self.session.host.counter_add(&key, amount, window_ms).await
    }
}

impl events::Host for State {
    async fn emit(&mut self, name: String, payload: String) -> Result<(), PowerError> {
        self.counted(payload.len())?;
        if !self.session.allowed.both(|set| set.may_emit(&name)) {
            return Err(self.denied("emit", &name));
        }
        if payload.len() > EVENT_BYTES_MAX {
            return Err(PowerError::failure("too-large", "a payload has 64 KiB at most", false));
        }
        let payload = serde_json::from_str(&payload).map_err(|error| {
            PowerError::failure("invalid", format!("the payload is not JSON: {error}"), false)
        })?;
        self.session.host.emit(&name, payload).await
    }
}

impl clock::Host for State {
    async fn now_ms(&mut self) -> wasmtime::Result<u64> {
        self.counted(0).map_err(ended)?;
        if self.session.allowed.both(|set| set.clock.is_some()) {
            Ok(self.session.host.now_ms())
        } else {
            Err(ended(self.denied("clock", "the time of day")))
        }
    }
}

impl metrics::Host for State {
    async fn add(
        &mut self,
        name: String,
        amount: f64,
        labels: Vec<(String, String)>,
    ) -> Result<(), PowerError> {
        self.measure(name, labels, MeasureValue::Added(amount))
    }

    async fn set(
        &mut self,
        name: String,
        value: f64,
        labels: Vec<(String, String)>,
    ) -> Result<(), PowerError> {
        self.measure(name, labels, MeasureValue::Set(value))
    }
}
