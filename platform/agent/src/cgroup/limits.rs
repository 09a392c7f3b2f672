//! The limits of one leaf, written as each version of the kernel's interface wants them.

use berth_model::Limits;

/// Scheduler period, microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// What the processes of a leaf may use together. Swap counts as memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeafLimits {
    /// Bytes.
    pub(crate) memory_bytes: u64,
    /// Thousandths of one core.
    pub(crate) cpu_milli: u32,
    /// Processes and threads.
    pub(crate) pids: u32,
}

impl From<Limits> for LeafLimits {
    fn from(limits: Limits) -> Self {
        Self {
            memory_bytes: u64::from(limits.memory_mib) << 20,
            cpu_milli: limits.cpu_milli,
            pids: limits.pids,
        }
    }
}

impl LeafLimits {
    /// Quota of processor time in one period, microseconds; the kernel takes no less than 1 ms.
    fn cpu_quota_us(&self) -> u64 {
        (u64::from(self.cpu_milli) * CPU_PERIOD_US / 1000).max(1000)
    }

    /// Controller, file and value, for v1. `memory.limit_in_bytes` comes before the sum with
    /// swap, which may not be lower.
    pub(super) fn v1(&self) -> Vec<(&'static str, &'static str, String)> {
        vec![
            ("memory", "memory.limit_in_bytes", self.memory_bytes.to_string()),
            ("memory", "memory.memsw.limit_in_bytes", self.memory_bytes.to_string()),
            ("cpu", "cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
            ("cpu", "cpu.cfs_quota_us", self.cpu_quota_us().to_string()),
            ("pids", "pids.max", self.pids.to_string()),
        ]
    }

    /// File and value, for v2. A killed process takes its whole leaf along.
    pub(super) fn v2(&self) -> Vec<(&'static str, String)> {
        vec![
            ("memory.max", self.memory_bytes.to_string()),
            ("memory.swap.max", "0".into()),
            ("memory.oom.group", "1".into()),
            ("cpu.max", format!("{} {CPU_PERIOD_US}", self.cpu_quota_us())),
            ("pids.max", self.pids.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_written_on_both_versions_and_none_is_unlimited() {
        let limits =
            LeafLimits::from(Limits { memory_mib: 64, cpu_milli: 500, pids: 32, disk_mib: 1 });
        let v1 = limits.v1();
        assert!(v1.contains(&("cpu", "cpu.cfs_quota_us", "50000".into())));
        assert!(v1.contains(&("memory", "memory.memsw.limit_in_bytes", "67108864".into())));
        assert!(limits.v2().contains(&("cpu.max", "50000 100000".into())));
        assert!(limits.v2().iter().all(|(_, value)| value != "max"));
    }
}
