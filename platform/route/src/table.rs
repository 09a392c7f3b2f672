//! The compiled table: from a host to an app's targets.
//!
//! Takes a [`RouteTable`], gives a value that is never changed again and is swapped as a whole.
//! What stays the same from one table to the next (targets, with their connections and counts,
//! and apps) is taken over, so a change of one route touches no other. Lookup: the exact host,
//! else the wildcard of its parent domain; no allocation, no lock.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use berth_model::route::RouteState;
use berth_model::{AppId, AppName, RouteMiddleware, RouteTable, TargetAddress};

use crate::app::App;
use crate::clock;
use crate::config::Config;
use crate::host::HostName;
use crate::middleware::{Chain, Link};
use crate::target::Target;

#[derive(Default)]
pub(crate) struct Table {
    pub(crate) generation: u64,
    is_told: bool,
    exact: HashMap<Box<str>, Arc<Route>>,
    /// By the part after `*.`.
    wildcard: HashMap<Box<str>, Arc<Route>>,
    pub(crate) targets: HashMap<berth_model::Target, Arc<Target>>,
    pub(crate) apps: HashMap<AppId, Arc<App>>,
    /// Where what has no host listens: add-ons, by name.
    addons: HashMap<Box<str>, Ipv4Addr>,
}

/// One app's route.
pub(crate) struct Route {
    pub(crate) app: Arc<App>,
    pub(crate) name: AppName,
    pub(crate) release: Option<u64>,
    pub(crate) state: RouteState,
    pub(crate) targets: Vec<Arc<Target>>,
    /// What requests pass first; nothing for most.
    pub(crate) chain: Option<Arc<Chain>>,
}

/// A table that cannot be served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TableError {
    #[error("generation {offered} is older than {current}")]
    Older { offered: u64, current: u64 },
    #[error("the host {host} stands in the routes of {first} and of {second}")]
    Duplicate { host: String, first: AppName, second: AppName },
    #[error("'{host}' in the route of {app} is not a host in lower case without port")]
    Host { host: String, app: AppName },
}

impl Table {
    /// Compiles `source`, keeping what `before` and it share. `target` makes what is new, `link`
    /// finds a middleware.
    pub(crate) fn compile(
        source: &RouteTable,
        before: &Table,
        config: &Config,
        target: impl Fn(&berth_model::Target) -> Target,
        link: impl Fn(&RouteMiddleware) -> Link,
    ) -> Result<Self, TableError> {
        if source.generation < before.generation {
            return Err(TableError::Older {
                offered: source.generation,
                current: before.generation,
            });
        }
        let mut table = Self { generation: source.generation, is_told: true, ..Self::default() };
        for route in &source.routes {
            let app = before.apps.get(&route.app).cloned();
            let app = app.unwrap_or_else(|| Arc::new(App::new(route.app, config)));
            table.apps.insert(route.app, Arc::clone(&app));
            let targets = route.targets.iter().map(|wanted| {
                let known = before.targets.get(wanted).filter(|known| !known.is_removed());
                let kept = table
                    .targets
                    .entry(wanted.clone())
                    .or_insert_with(|| known.map_or_else(|| Arc::new(target(wanted)), Arc::clone));
                Arc::clone(kept)
            });
            let compiled = Arc::new(Route {
                app,
                name: route.name.clone(),
                release: route.release,
                state: route.state,
                targets: targets.collect(),
                chain: Chain::of(route.middleware.iter().map(&link).collect()),
            });
            if route.hosts.is_empty()
                && let Some(TargetAddress::Tcp(SocketAddr::V4(address))) =
                    route.targets.first().map(|target| &target.address)
            {
                table.addons.insert(route.name.as_str().into(), *address.ip());
            }
            for host in &route.hosts {
                table.add(host, &compiled)?;
            }
        }
        Ok(table)
    }

    /// Whether this is a table, and not the lack of one.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }

    /// The route of a host.
    pub(crate) fn find(&self, host: &str) -> Option<&Arc<Route>> {
        self.exact.get(host).or_else(|| {
            let (_, parent) = host.split_once('.')?;
            self.wildcard.get(parent)
        })
    }

    /// Where an add-on listens.
    pub(crate) fn addon(&self, name: &str) -> Option<Ipv4Addr> {
        self.addons.get(name).copied()
    }

    fn add(&mut self, host: &str, route: &Arc<Route>) -> Result<(), TableError> {
        let (map, name) = match host.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, host),
        };
        let normal = HostName::parse(name.as_bytes()).filter(|normal| normal.as_str() == name);
        if normal.is_none() {
            return Err(TableError::Host {
                host: host.escape_debug().take(300).collect(),
                app: route.name.clone(),
            });
        }
        match map.insert(name.into(), Arc::clone(route)) {
            None => Ok(()),
            Some(first) => Err(TableError::Duplicate {
                host: host.to_owned(),
                first: first.name.clone(),
                second: route.name.clone(),
            }),
        }
    }
}

impl Route {
    /// A target for a request: the less loaded of two random ones, neither tried before nor
    /// ejected where there is such a one. An ejected target is better than none.
    pub(crate) fn pick(&self, tried: &[Arc<Target>]) -> Option<Arc<Target>> {
        if let ([only], []) = (self.targets.as_slice(), tried) {
            return Some(Arc::clone(only));
        }
        let now_ms = clock::now_ms();
        let fresh = |target: &&Arc<Target>| !tried.iter().any(|t| Arc::ptr_eq(t, target));
        let healthy: Vec<_> =
            self.targets.iter().filter(fresh).filter(|target| !target.is_ejected(now_ms)).collect();
        let candidates =
            if healthy.is_empty() { self.targets.iter().filter(fresh).collect() } else { healthy };
        let count = candidates.len();
        let first_at = fastrand::usize(..count.max(1));
        let first = candidates.get(first_at)?;
        let second = candidates.get((first_at + fastrand::usize(1..count.max(2))) % count)?;
        let lighter = if second.in_flight() < first.in_flight() { second } else { first };
        Some(Arc::clone(lighter))
    }

    /// Notes a target's failure, and ejects it after several in a row: never more than half of
    /// an app's targets, so never its only one.
    pub(crate) fn report_failure(&self, target: &Target, config: &Config) {
        if !target.failed(config.limits.ejection_errors) {
            return;
        }
        let now_ms = clock::now_ms();
        let ejected = self.targets.iter().filter(|t| t.is_ejected(now_ms)).count();
        if !target.is_ejected(now_ms) && (ejected + 1) * 2 <= self.targets.len() {
            target.eject(clock::ms(config.deadlines.ejection));
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_model::{InstanceId, TargetAddress};
    use tokio::sync::broadcast;

    use super::*;

    fn config() -> Config {
        Config::new("/nonexistent", "/nonexistent", "test")
    }

    fn route(n: u8, hosts: &[&str], targets: usize) -> berth_model::Route {
        berth_model::Route {
            app: AppId::new(1, [n; 10]),
            name: format!("app-{n}").parse().unwrap(),
            release: Some(1),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            state: RouteState::Serving,
            targets: (0..targets)
                .map(|i| berth_model::Target {
                    instance: InstanceId::new(i as u64, [n; 10]),
                    address: TargetAddress::Tcp(([127, 0, 0, 1], 5000).into()),
                })
                .collect(),
            middleware: Vec::new(),
        }
    }

    fn compile(
        generation: u64,
        routes: Vec<berth_model::Route>,
        before: &Table,
    ) -> Result<Table, TableError> {
        let (events, _) = broadcast::channel(8);
        let config = config();
        let middlewares = crate::middleware::Middlewares::new(events.clone());
        let link = |wanted: &_| middlewares.link(wanted);
        let worker = Arc::new(crate::upstream::Pool::of_worker(&config));
        let target = |target: &_| Target::new(target, &config, events.clone(), &worker);
        Table::compile(&RouteTable { generation, routes }, before, &config, target, link)
    }

    #[test]
    fn the_exact_host_wins_over_the_wildcard_and_a_wildcard_is_one_label() {
        let routes = vec![
            route(1, &["a.example.org"], 0),
            route(2, &["*.example.org", "example.org"], 0),
            route(3, &["*.b.example.org"], 0),
        ];
        let table = compile(1, routes, &Table::default()).unwrap();
        let name = |host| table.find(host).map(|route| route.name.to_string());
        assert_eq!(name("a.example.org").as_deref(), Some("app-1"));
        assert_eq!(name("x.example.org").as_deref(), Some("app-2"));
        assert_eq!(name("example.org").as_deref(), Some("app-2"));
        assert_eq!(name("x.b.example.org").as_deref(), Some("app-3"));
        assert_eq!(name("x.y.example.org"), None);
        assert_eq!(name("org"), None);
    }

    #[test]
    fn a_host_claimed_twice_an_older_generation_and_a_bad_host_are_refused() {
        let twice = vec![route(1, &["a.org"], 0), route(2, &["a.org"], 0)];
        assert!(matches!(compile(1, twice, &Table::default()), Err(TableError::Duplicate { .. })));
        let current = compile(5, vec![], &Table::default()).unwrap();
        assert!(matches!(compile(4, vec![], &current), Err(TableError::Older { .. })));
        assert!(compile(5, vec![], &current).is_ok(), "the same generation may be told again");
        for host in ["A.org", "a.org:80", "a.org.", "*", "*.*.org", "a b", ""] {
            let refused = compile(1, vec![route(1, &[host], 0)], &Table::default());
            assert!(matches!(refused, Err(TableError::Host { .. })), "{host}");
        }
    }

    #[test]
    fn what_two_tables_share_keeps_its_state() {
        let first = compile(1, vec![route(1, &["a.org"], 2)], &Table::default()).unwrap();
        let second = compile(2, vec![route(1, &["a.org"], 3)], &first).unwrap();
        assert!(
            first.targets.iter().all(|(key, target)| Arc::ptr_eq(target, &second.targets[key]))
        );
        assert_eq!(second.targets.len(), 3);
        let app = AppId::new(1, [1; 10]);
        assert!(Arc::ptr_eq(&first.apps[&app], &second.apps[&app]));
    }

    #[test]
    fn a_failing_target_is_avoided_but_never_the_only_one() {
        let table = compile(1, vec![route(1, &["a.org"], 2)], &Table::default()).unwrap();
        let route = table.find("a.org").unwrap();
        for target in &route.targets {
            for _ in 0..5 {
                route.report_failure(target, &config());
            }
        }
        let now_ms = clock::now_ms();
        let ejected: Vec<bool> = route.targets.iter().map(|t| t.is_ejected(now_ms)).collect();
        assert_eq!(ejected, [true, false], "half at most");
        for _ in 0..50 {
            assert!(Arc::ptr_eq(&route.pick(&[]).unwrap(), &route.targets[1]));
        }
        let tried = [Arc::clone(&route.targets[1])];
        assert!(Arc::ptr_eq(&route.pick(&tried).unwrap(), &route.targets[0]), "better than none");
        assert!(route.pick(&route.targets).is_none());
    }

    #[test]
    fn the_less_loaded_target_is_preferred() {
        let table = compile(1, vec![route(1, &["a.org"], 2)], &Table::default()).unwrap();
        let route = table.find("a.org").unwrap();
        let busy: Vec<_> = (0..10).filter_map(|_| route.targets[0].enter()).collect();
        let picks =
            (0..400).filter(|_| Arc::ptr_eq(&route.pick(&[]).unwrap(), &route.targets[0])).count();
        assert_eq!(picks, 0);
        drop(busy);
    }
}
