//! What the machine and this process use, as `/proc` tells everybody.

use std::fs;
use std::path::Path;

/// The unit of times in `/proc/stat` and `/proc/<pid>/stat`: USER_HZ, 100 a second (proc(5)).
const TICK_US: u64 = 10_000;

/// The machine at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Host {
    /// Processor time that was used since the machine's start, microseconds.
    pub(crate) cpu_us: Option<u64>,
    /// Processors.
    pub(crate) cpus: Option<f64>,
    /// Memory that is not available for more, and all, bytes.
    pub(crate) memory: Option<(f64, f64)>,
    /// The disk of the data folder: what is taken, and all, bytes.
    pub(crate) disk: Option<(f64, f64)>,
    /// Mean of the last minute.
    pub(crate) load: Option<f64>,
    /// This process: processor time, microseconds; memory, bytes.
    pub(crate) own: Option<(u64, u64)>,
}

impl Host {
    /// Now. What cannot be read is not measured.
    pub(crate) fn look(data: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let stat = read("/proc/stat");
        let disk = rustix::fs::statvfs(data).ok().map(|disk| {
            let bytes = |blocks: u64| (blocks * disk.f_frsize) as f64;
            // As `df` counts: what only root may take is neither taken nor free.
            (
                bytes(disk.f_blocks - disk.f_bfree),
                bytes(disk.f_blocks - disk.f_bfree + disk.f_bavail),
            )
        });
        Self {
            cpu_us: cpu_us(&stat),
            cpus: cpus(&stat),
            memory: memory(&read("/proc/meminfo")),
            disk,
            load: read("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()),
            own: own(&read("/proc/self/stat"), &read("/proc/self/statm")),
        }
    }
}

/// user, nice, system, irq, softirq and steal; guests are in user already.
fn cpu_us(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    let used = [0, 1, 2, 5, 6, 7].iter().map(|index| ticks.get(*index).copied().unwrap_or(0));
    (ticks.len() >= 4).then(|| used.sum::<u64>() * TICK_US)
}

fn cpus(stat: &str) -> Option<f64> {
    let is_one = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let count = stat.lines().filter(is_one).count();
    (count > 0).then_some(count as f64)
}

fn memory(meminfo: &str) -> Option<(f64, f64)> {
    let kib = |name: &str| -> Option<f64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
    Some(((total - available) * 1024.0, total * 1024.0))
}

fn own(stat: &str, statm: &str) -> Option<(u64, u64)> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(((user + system) * TICK_US, pages * rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_from_proc() {
        let stat = "cpu  100 10 50 900 30 1 2 3 7 7\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5\n";
        assert_eq!(cpu_us(stat), Some(166 * TICK_US));
        assert_eq!(cpus(stat), Some(2.0));
        let meminfo = "MemTotal:       1000 kB\nMemFree:  5 kB\nMemAvailable:    400 kB\n";
        assert_eq!(memory(meminfo), Some((614_400.0, 1_024_000.0)));
        assert_eq!(own("7 (a) b) S 1 7 7 0 -1 4 1 2 3 4 150 50 9", "9 3 1"), {
            Some((2_000_000, 3 * rustix::param::page_size() as u64))
        });
        assert_eq!((cpu_us(""), cpus(""), memory(""), own("", "")), (None, None, None, None));
    }

    #[test]
    fn this_machine_tells_everything() {
        let host = Host::look(Path::new("/"));
        assert!(host.cpu_us.is_some_and(|us| us > 0) && host.cpus.is_some_and(|n| n >= 1.0));
        let (used, total) = host.memory.unwrap();
        assert!(0.0 < used && used < total);
        let (used, total) = host.disk.unwrap();
        assert!(0.0 < used && used < total);
        assert!(host.load.is_some() && host.own.is_some_and(|(_, bytes)| bytes > 1 << 20));
    }
}
