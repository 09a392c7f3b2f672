//! Which refusals are written one by one, and which are counted. Pure: times are passed in.
//!
//! The first of its kind is written at once. What repeats (the same principal or network, the same
//! thing, the same call) is counted, and written as a number when a pause is over that doubles from a
//! minute to an hour for as long as it goes on. Each kind has a budget besides; what it does not
//! cover is one number an hour. So a flood of them fills no disk and pushes no other event out of
//! the table: 60 rows at once, and then at most 720 a day of each kind, of 500,000 that are kept.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use berth_model::PrincipalId;
use berth_store::{By, Refused};
use serde_json::json;

use super::{Attempt, Kind, NOBODY, PLATFORM};

/// The first pause, and the longest.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Different ones that are told apart at once.
const OPEN_MAX: usize = 256;
/// Rows of a kind that may be written at once, and how long it takes until there is one more.
const BURST: u32 = 60;
const REFILL: Duration = Duration::from_secs(120);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Same {
    kind: Kind,
    principal: PrincipalId,
    /// Who is known may come from many addresses.
    network: Option<IpAddr>,
    subject: String,
    call: String,
}

struct Open {
    last: Attempt,
    /// Since the last row.
    times: u64,
    due: Instant,
    pause: Duration,
}

#[derive(Default)]
struct Budget {
    spent: u32,
    since: Option<Instant>,
}

/// What is counted now.
#[derive(Default)]
pub(super) struct Ledger {
    open: HashMap<Same, Open>,
    budgets: [Budget; 2],
    /// What is told one by one no more, and when that is written.
    more: u64,
    more_due: Option<Instant>,
    more_written: Option<Instant>,
}

impl Ledger {
    /// The row for one that is new; nothing for what is counted.
    pub(super) fn note(&mut self, attempt: Attempt, now: Instant) -> Option<Refused> {
        let same = same(&attempt);
        if let Some(open) = self.open.get_mut(&same) {
            open.times += 1;
            open.last = attempt;
            return None;
        }
        if self.open.len() >= OPEN_MAX || !self.budgets[attempt.kind as usize].take(now) {
            self.unheard(1, now);
            return None;
        }
        let row = row(&attempt, 1);
        let open = Open { last: attempt, times: 0, due: now + PAUSE, pause: PAUSE };
        self.open.insert(same, open);
        Some(row)
    }

    /// So many came that nothing is known of.
    pub(super) fn unheard(&mut self, count: u64, now: Instant) {
        self.more += count;
        if count > 0 && self.more_due.is_none() {
            let hour = self.more_written.map_or(now, |at| at + PAUSE_MAX);
            self.more_due = Some(hour.max(now + PAUSE));
        }
    }

    /// When [`Self::due`] has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.open.values().map(|open| open.due).chain(self.more_due).min()
    }

    /// Rows for what was counted and whose pause is over.
    pub(super) fn due(&mut self, now: Instant, now_ms: i64) -> Vec<Refused> {
        let mut rows = Vec::new();
        let budgets = &mut self.budgets;
        self.open.retain(|_, open| {
            if open.due > now {
                return true;
            }
            if open.times == 0 {
                return false;
            }
            if budgets[open.last.kind as usize].take(now) {
                rows.push(row(&open.last, open.times));
                open.times = 0;
            }
            open.pause = (open.pause * 2).min(PAUSE_MAX);
            open.due = now + open.pause;
            true
        });
        if self.more_due.is_some_and(|due| due <= now) {
            (self.more_due, self.more_written) = (None, Some(now));
            rows.extend(self.take_more(now_ms));
        }
        rows
    }

    /// Rows for all that was counted, at the end.
    pub(super) fn rest(&mut self, now_ms: i64) -> Vec<Refused> {
        let open = std::mem::take(&mut self.open).into_values();
        let counted = open.filter(|open| open.times > 0);
        let mut rows: Vec<Refused> = counted.map(|open| row(&open.last, open.times)).collect();
        rows.extend(self.take_more(now_ms));
        rows
    }

    fn take_more(&mut self, now_ms: i64) -> Option<Refused> {
        let times = std::mem::take(&mut self.more);
        (times > 0).then(|| Refused {
            kind: "access.more",
            by: By { name: NOBODY.to_owned(), ..By::system(now_ms) },
            subject: PLATFORM.to_owned(),
            app: None,
            team: None,
            what: json!({ "times": times }),
        })
    }
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let more = now.duration_since(since).as_secs() / REFILL.as_secs();
        if more > 0 {
            self.spent = self.spent.saturating_sub(u32::try_from(more).unwrap_or(u32::MAX));
            self.since = Some(since + REFILL * u32::try_from(more).unwrap_or(u32::MAX));
        }
        let has = self.spent < BURST;
        self.spent += u32::from(has);
        has
    }
}

fn same(attempt: &Attempt) -> Same {
    let known = attempt.kind == Kind::Denied;
    Same {
        kind: attempt.kind,
        principal: attempt.by.principal,
        network: attempt.by.source_ip.filter(|_| !known).map(network),
        subject: attempt.subject.clone(),
        call: attempt.call.clone(),
    }
}

/// Who has one address of IPv6 has its /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(six) => IpAddr::V6((u128::from(six) >> 64 << 64).into()),
    }
}

fn row(attempt: &Attempt, times: u64) -> Refused {
    let mut what = attempt.what.clone();
    what["times"] = json!(times);
    Refused {
        kind: match attempt.kind {
            Kind::Failed => "access.failed",
            Kind::Denied => "access.denied",
        },
        by: attempt.by.clone(),
        subject: attempt.subject.clone(),
        app: attempt.app,
        team: attempt.team,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn from(ip: &str) -> Attempt {
        Attempt {
            kind: Kind::Failed,
            by: By { source_ip: Some(ip.parse().unwrap()), ..By::system(0) },
            subject: PLATFORM.to_owned(),
            app: None,
            team: None,
            call: "the API".to_owned(),
            what: json!({}),
        }
    }

    fn times(rows: &[Refused]) -> Vec<u64> {
        rows.iter().map(|row| row.what["times"].as_u64().unwrap()).collect()
    }

    #[test]
    fn what_repeats_is_one_row_and_then_a_number() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        assert_eq!(times(&Vec::from_iter(ledger.note(from("10.0.0.1"), start))), [1]);
        for _ in 0..1000 {
            assert_eq!(ledger.note(from("10.0.0.1"), start), None);
        }
        assert!(ledger.note(from("10.0.0.2"), start).is_some(), "another one is told apart");
        assert!(ledger.due(start + MINUTE / 2, 0).is_empty());
        assert_eq!(ledger.next_due(), Some(start + MINUTE));
        assert_eq!(times(&ledger.due(start + MINUTE, 0)), [1000]);
        // It goes on: the next number comes after twice the time.
        assert_eq!(ledger.note(from("10.0.0.1"), start + MINUTE), None);
        assert!(ledger.due(start + 2 * MINUTE, 0).is_empty());
        assert_eq!(times(&ledger.due(start + 3 * MINUTE, 0)), [1]);
        // It ended: the next one is a row of its own again.
        assert!(ledger.due(start + 7 * MINUTE, 0).is_empty());
        assert_eq!(ledger.next_due(), None);
        assert!(ledger.note(from("10.0.0.1"), start + 7 * MINUTE).is_some());
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        assert!(ledger.note(from("2001:db8::1"), now).is_some());
        assert!(ledger.note(from("2001:db8::2"), now).is_none());
        assert!(ledger.note(from("2001:db8:0:1::1"), now).is_some());
    }

    #[test]
    fn a_flood_from_everywhere_is_a_few_rows_and_a_number() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let mut rows = Vec::new();
        for n in 0..20_000_u32 {
            rows.extend(ledger.note(from(&format!("10.0.{}.{}", n / 250, n % 250)), start));
        }
        assert_eq!(rows.len(), usize::try_from(BURST).unwrap());
        assert!(ledger.open.len() <= OPEN_MAX);
        let told = ledger.due(start + MINUTE, 0);
        assert_eq!((told.len(), told[0].kind), (1, "access.more"));
        assert_eq!(rows.len() as u64 + times(&told)[0], 20_000, "none is forgotten");
        // The other kind has a budget of its own.
        let denied = Attempt { kind: Kind::Denied, ..from("10.0.0.1") };
        assert!(ledger.note(denied, start + MINUTE).is_some());

        // A day of it.
        let mut written = 0;
        for minute in 2..24 * 60_u32 {
            let now = start + MINUTE * minute;
            for n in 0..100 {
                let attempt = from(&format!("10.{}.{n}.1", minute % 200));
                written += usize::from(ledger.note(attempt, now).is_some());
            }
            written += ledger.due(now, 0).len();
        }
        assert!(written <= 720 + 24 + 60, "{written} rows");
    }

    #[test]
    fn nothing_that_was_counted_is_lost_at_the_end() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.note(from("10.0.0.1"), now);
        assert!(ledger.note(from("10.0.0.1"), now).is_none());
        ledger.unheard(7, now);
        let mut counted = times(&ledger.rest(0));
        counted.sort_unstable();
        assert_eq!(counted, [1, 7]);
        assert!(ledger.rest(0).is_empty());
    }
}
