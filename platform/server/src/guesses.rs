//! How often somebody may guess a password. Pure: times are passed in.
//!
//! Each try counts as a failure until it is known to be none, so that many at once are no way around
//! it. After a few, a name or a network must wait, twice as long with each that fails, for a quarter
//! of an hour at most. Names that nobody has wait as well: the answer tells nothing about which exist.
//! Access tokens and links are never refused here, so that nobody is locked out of the platform by
//! what others try.
//!
//! What is remembered are numbers in a table of fixed size, at a place that a key of this process
//! chooses for each name: no flood of names or addresses pushes another one out. Two may share a
//! place, which costs a wait now and then.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Places in each of the two tables.
const PLACES: usize = 16_384;
/// Failures without a wait: of a name, and of a network, where many people may be.
const FREE_OF_NAME: u32 = 5;
const FREE_OF_NETWORK: u32 = 20;
/// The first wait, and the longest.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Failures are forgotten after this time without one.
const MEMORY: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Copy, Default)]
struct Place {
    failures: u32,
    last: Option<Instant>,
}

impl Place {
    /// The wait that is left.
    fn wait(&self, free: u32, now: Instant) -> Option<Duration> {
        let over = self.failures.checked_sub(free)?;
        let wait = WAIT.saturating_mul(1 << over.min(16)).min(WAIT_MAX);
        let left = wait.checked_sub(now.duration_since(self.last?))?;
        Some(left).filter(|left| !left.is_zero())
    }

    fn fail(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.duration_since(last) >= MEMORY) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
    }
}

/// What was tried.
pub(crate) struct Guesses {
    key: RandomState,
    names: Vec<Place>,
    networks: Vec<Place>,
}

/// One try that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Try {
    name: usize,
    network: Option<usize>,
    /// This failure begins a wait of the name.
    pub(crate) locks: bool,
}

impl Default for Guesses {
    fn default() -> Self {
        Self {
            key: RandomState::new(),
            names: vec![Place::default(); PLACES],
            networks: vec![Place::default(); PLACES],
        }
    }
}

impl Guesses {
    fn place(&self, of: impl Hash) -> usize {
        usize::try_from(self.key.hash_one(of) % PLACES as u64).unwrap_or(0)
    }

    /// Begins a try, or says how long to wait.
    pub(crate) fn begin(
        &mut self,
        name: &str,
        from: Option<IpAddr>,
        now: Instant,
    ) -> Result<Try, Duration> {
        let name = self.place(name);
        // Behind a proxy on this machine is everybody.
        let network = from.filter(|ip| !ip.is_loopback()).map(|ip| self.place(network(ip)));
        let waits = [
            self.names[name].wait(FREE_OF_NAME, now),
            network.and_then(|network| self.networks[network].wait(FREE_OF_NETWORK, now)),
        ];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(wait);
        }
        self.names[name].fail(now);
        if let Some(network) = network {
            self.networks[network].fail(now);
        }
        let locks = self.names[name].failures == FREE_OF_NAME;
        Ok(Try { name, network, locks })
    }

    /// It was right: the name's failures are forgotten, and it is none of the network's.
    pub(crate) fn right(&mut self, made: Try) {
        self.names[made.name] = Place::default();
        self.not_counted(made.network);
    }

    /// It was wrong: the wait begins with the answer.
    pub(crate) fn wrong(&mut self, made: Try, now: Instant) {
        self.names[made.name].last = Some(now);
        if let Some(network) = made.network {
            self.networks[network].last = Some(now);
        }
    }

    /// It was neither right nor wrong: the platform was too busy to look.
    pub(crate) fn unanswered(&mut self, made: Try) {
        let name = &mut self.names[made.name];
        name.failures = name.failures.saturating_sub(1);
        self.not_counted(made.network);
    }

    fn not_counted(&mut self, network: Option<usize>) {
        if let Some(network) = network.map(|network| &mut self.networks[network]) {
            network.failures = network.failures.saturating_sub(1);
        }
    }
}

/// Who has one address of IPv6 has its /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(six) => IpAddr::V6((u128::from(six) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, n]))
    }

    #[test]
    fn a_name_waits_longer_with_each_failure_and_never_longer_than_a_quarter_of_an_hour() {
        let (mut guesses, mut now) = (Guesses::default(), Instant::now());
        for n in 0..5 {
            let made = guesses.begin("anna", ip(n), now).unwrap();
            assert_eq!(made.locks, n == 4);
        }
        assert_eq!(guesses.begin("anna", ip(9), now), Err(SECOND));
        assert!(guesses.begin("bert", ip(9), now).is_ok(), "another name does not wait");
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let almost = now + SECOND * wait - SECOND / 2;
            assert_eq!(guesses.begin("anna", ip(9), almost), Err(SECOND / 2), "after {wait} s");
            now += SECOND * wait;
            assert!(guesses.begin("anna", ip(u8::try_from(wait % 200).unwrap()), now).is_ok());
        }
        now += MEMORY;
        for n in 0..5 {
            assert!(guesses.begin("anna", ip(n), now).is_ok(), "all is forgotten");
        }
    }

    #[test]
    fn many_at_once_are_no_way_around() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let begun = (0..1000).filter(|n| guesses.begin("anna", ip((n % 250) as u8), now).is_ok());
        assert_eq!(begun.count(), 5);
    }

    #[test]
    fn a_network_waits_whatever_names_it_tries() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let six = |n: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]));
        for n in 0..20 {
            assert!(guesses.begin(&format!("user-{n}"), six(n), now).is_ok());
        }
        assert!(guesses.begin("other", six(77), now).is_err());
        assert!(guesses.begin("other", ip(1), now).is_ok());
        let proxy = Some(IpAddr::from([127, 0, 0, 1]));
        for n in 0..100 {
            assert!(guesses.begin(&format!("user-{n}"), proxy, now).is_ok());
        }
    }

    #[test]
    fn who_was_right_begins_anew_and_counts_for_no_network() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for _ in 0..100 {
            for _ in 0..4 {
                let made = guesses.begin("anna", ip(1), now).unwrap();
                guesses.unanswered(made);
            }
            let made = guesses.begin("anna", ip(1), now).unwrap();
            guesses.right(made);
        }
    }
}
