//! What instances, apps and the machine use, over time.
//!
//! [`Measures::run`] asks the agent, the router and the Wasm worker once in a period, all at the same
//! time, and writes what is new as one record per thing into the rings of `DATA/measures`. Whoever
//! does not answer is not measured in that period; nothing waits for it, and nothing here stops the
//! platform: files that cannot be used are done without. `query` reads them for the API.

mod alerts;
mod config;
mod export;
mod fields;
mod host;
mod query;
mod sample;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_container::{Agent, Reply, Request};
use berth_extensions::WorkerClient;
use berth_measures::{Form, RingFile};
use berth_model::{AppId, InstanceId};
use berth_store::Store;
use tokio_util::sync::CancellationToken;

pub use config::MeasuresConfig;
pub use query::{QueryError, Wanted};

use crate::clock::now_ms;
use crate::router::Router;
use alerts::{Period, Watch};
use export::Latest;
use fields::{APP_WIDTH, HOST, INSTANCE};
use host::Host;
use sample::{Counted, Sample, Values};

/// The only thing in the host's file.
const HOST_NAME: &str = "host";
/// A moment before that is longer ago than this many periods is no moment before.
const PERIODS_MAX: u32 = 3;
/// Whoever does not answer within this is not measured.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Whom to ask.
pub struct Sources {
    /// Of containers.
    pub agent: Agent,
    /// Of requests.
    pub router: Router,
    /// Of Wasm apps.
    pub wasm: WorkerClient,
    /// Names of instances.
    pub store: Store,
    /// The folder whose disk is measured.
    pub data: PathBuf,
}

/// What was measured. Cheap to clone.
#[derive(Clone)]
pub struct Measures {
    inner: Arc<Inner>,
}

struct Inner {
    config: MeasuresConfig,
    files: Mutex<Option<Files>>,
    latest: Mutex<Option<Arc<Latest>>>,
}

/// The rings of each kind of thing.
struct Files {
    instances: RingFile,
    apps: RingFile,
    host: RingFile,
}

/// Names of what is measured of apps, or of the machine.
pub fn measure_names(of_apps: bool) -> Box<dyn Iterator<Item = &'static str>> {
    if of_apps { Box::new(fields::app_names()) } else { Box::new(fields::host_names()) }
}

/// An instance whose measures are kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    app: AppId,
    process: String,
    slot: u16,
}

impl Named {
    /// The name of its rings.
    fn ring(&self, instance: InstanceId) -> String {
        format!("{}/{instance}/{}/{}", self.app, self.process, self.slot)
    }

    fn parse(ring: &str) -> Option<Self> {
        let mut parts = ring.split('/');
        let (app, _, process, slot) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self { app: app.parse().ok()?, process: process.to_owned(), slot: slot.parse().ok()? })
    }
}

impl Measures {
    /// Those that lie in `folder`. What cannot be used there is set aside, and where nothing can be
    /// kept, nothing is: both are told in the log.
    pub fn open(folder: &Path, config: MeasuresConfig) -> Self {
        let files = Files::open(folder, config).inspect_err(|error| {
            tracing::error!("nothing that is measured is kept in {}: {error}", folder.display());
        });
        Self::with(config, files.ok())
    }

    /// None at all.
    pub fn none() -> Self {
        Self::with(MeasuresConfig::default(), None)
    }

    fn with(config: MeasuresConfig, files: Option<Files>) -> Self {
        let (files, latest) = (Mutex::new(files), Mutex::default());
        Self { inner: Arc::new(Inner { config, files, latest }) }
    }

    fn latest(&self) -> Option<Arc<Latest>> {
        self.inner.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn files(&self) -> MutexGuard<'_, Option<Files>> {
        self.inner.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Measures at the end of each period, until the platform ends.
    pub async fn run(self, sources: Sources, end: CancellationToken) {
        let period = Duration::from_millis(u64::from(self.inner.config.fine.period_ms));
        let mut before: Option<(Arc<Counted>, Instant)> = None;
        let mut names = HashMap::new();
        let mut watch = Watch::default();
        loop {
            let over_at_ms = self.period_after(now_ms());
            tokio::select! {
                () = end.cancelled() => return,
                () = until(over_at_ms) => {}
            }
            let now = (Arc::new(count(&sources).await), Instant::now());
            let since = before.as_ref().map(|(counted, at)| (&**counted, now.1 - *at));
            let since = since.filter(|(_, elapsed)| *elapsed < period * PERIODS_MAX);
            let sample = sample::sample(since, &now.0);
            learn_names(&sources.store, &sample, &mut names).await;
            let over = Period { from_ms: self.period_before(over_at_ms), to_ms: over_at_ms };
            if let Err(error) = watch.look(&sources.store, &sample, &names, over).await {
                tracing::warn!("alerts were not looked at: {error}");
            }
            self.keep(over.from_ms, sample, &names).await;
            let latest =
                Latest { at_ms: over_at_ms, counted: Arc::clone(&now.0), names: names.clone() };
            *self.inner.latest.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Arc::new(latest));
            before = Some(now);
        }
    }

    /// The end of the period that `at_ms` lies in, Unix milliseconds.
    fn period_after(&self, at_ms: i64) -> i64 {
        let period_ms = i64::from(self.inner.config.fine.period_ms);
        (at_ms / period_ms + 1) * period_ms
    }

    fn period_before(&self, at_ms: i64) -> i64 {
        at_ms - i64::from(self.inner.config.fine.period_ms)
    }

    async fn keep(&self, at_ms: i64, sample: Sample, names: &HashMap<InstanceId, Named>) {
        let instances = sample.instances.into_iter();
        let instances: Vec<(String, Values)> =
            instances.filter_map(|(id, values)| Some((names.get(&id)?.ring(id), values))).collect();
        let own = self.clone();
        let kept = tokio::task::spawn_blocking(move || {
            own.files()
                .as_mut()
                .map_or(Ok(0), |files| files.keep(at_ms, &instances, &sample.apps, &sample.host))
        });
        match kept.await {
            Ok(Ok(0)) => {}
            Ok(Ok(left_out)) => tracing::warn!(
                "measures of {left_out} apps and instances are not kept: there is room for {} and \
                 {} (apps_max and instances_max)",
                self.inner.config.apps_max,
                self.inner.config.instances_max
            ),
            Ok(Err(error)) => tracing::warn!("what was measured is not kept: {error}"),
            Err(error) => tracing::warn!("what was measured is not kept: {error}"),
        }
    }
}

impl Files {
    fn open(folder: &Path, config: MeasuresConfig) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut most = 0;
        let mut open = |name: &str, merge: Vec<_>, places: u32| {
            let form = Form { merge, places, fine: config.fine, coarse: config.coarse };
            most += form.bytes_max();
            let opened = RingFile::open(&folder.join(name), form)?;
            if let Some((old, why)) = opened.set_aside {
                tracing::warn!(
                    "measures begin anew: {} cannot be used ({why}), and lies at {} now",
                    folder.join(name).display(),
                    old.display()
                );
            }
            io::Result::Ok(opened.file)
        };
        let of = |fields: &[fields::Field]| fields.iter().map(|field| field.merge).collect();
        let files = Self {
            instances: open("instances.rings", of(&INSTANCE), config.instances_max)?,
            apps: open("apps.rings", vec![berth_measures::Merge::Sum; APP_WIDTH], config.apps_max)?,
            host: open("host.rings", of(&HOST), 1)?,
        };
        tracing::info!("measures take {} MiB at most", most.div_ceil(1 << 20));
        Ok(files)
    }

    /// Gives how many things found no room.
    fn keep(
        &mut self,
        at_ms: i64,
        instances: &[(String, Values)],
        apps: &[(AppId, Values)],
        host: &[Option<f64>],
    ) -> io::Result<usize> {
        let mut left_out = 0;
        for (name, values) in instances {
            left_out += usize::from(!self.instances.write(name, at_ms, values)?);
        }
        for (app, values) in apps {
            left_out += usize::from(!self.apps.write(&app.to_string(), at_ms, values)?);
        }
        self.host.write(HOST_NAME, at_ms, host)?;
        for file in [&mut self.instances, &mut self.apps, &mut self.host] {
            file.settle(at_ms)?;
        }
        Ok(left_out)
    }
}

async fn until(at_ms: i64) {
    loop {
        let left = at_ms - now_ms();
        let Ok(left @ 1..) = u64::try_from(left) else { return };
        tokio::time::sleep(Duration::from_millis(left)).await;
    }
}

/// Asks everybody at once.
async fn count(sources: &Sources) -> Counted {
    let agent = async {
        match sources.agent.call(&Request::Measures, &[]).await {
            Ok((Reply::Measures(measures), _)) => Some(measures),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!("containers are not measured: {error}");
                None
            }
        }
    };
    let router = async { sources.router.metrics().await.map(|(at, all)| (at, all.apps)) };
    let wasm = async { sources.wasm.stats().await.ok().map(|stats| stats.apps) };
    let data = sources.data.clone();
    let host = tokio::task::spawn_blocking(move || Host::look(&data));
    let (agent, router, wasm, host) =
        tokio::join!(in_time(agent), in_time(router), in_time(wasm), host);
    Counted { agent, router, wasm, host: host.unwrap_or_default() }
}

async fn in_time<T>(answer: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(ANSWER_MAX, answer).await.ok().flatten()
}

/// Finds out which process new instances are of, and forgets those that are gone.
async fn learn_names(store: &Store, sample: &Sample, names: &mut HashMap<InstanceId, Named>) {
    let mut known = HashMap::with_capacity(sample.instances.len());
    for (id, _) in &sample.instances {
        let named = match names.remove(id) {
            Some(named) => Some(named),
            None => store.instance(*id).await.ok().flatten().map(|record| Named {
                app: record.app,
                process: record.process.to_string(),
                slot: record.slot,
            }),
        };
        known.extend(named.map(|named| (*id, named)));
    }
    *names = known;
}
