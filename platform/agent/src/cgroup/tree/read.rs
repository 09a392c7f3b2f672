//! What the kernel counted of a leaf. What cannot be read is 0: the leaf ends at this moment.

use std::fs;

use super::{Leaf, Version};

impl Leaf {
    /// Memory in use, bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.number("memory", "memory.usage_in_bytes", "memory.current")
    }

    /// Most memory ever used, bytes; 0 where the kernel does not tell.
    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        self.number("memory", "memory.max_usage_in_bytes", "memory.peak")
    }

    /// Processor time used, microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        match self.version {
            Version::V1 => self.number("cpuacct", "cpuacct.usage", "") / 1000,
            Version::V2 => self.field("cpu", "cpu.stat", "usage_usec"),
        }
    }

    /// How many processes the kernel ended for the leaf's memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        match self.version {
            Version::V1 => self.field("memory", "memory.oom_control", "oom_kill"),
            Version::V2 => self.field("memory", "memory.events", "oom_kill"),
        }
    }

    /// Time for which threads were kept from the processor by the leaf's limit, microseconds.
    pub(crate) fn throttled_us(&self) -> u64 {
        match self.version {
            Version::V1 => self.field("cpu", "cpu.stat", "throttled_time") / 1000,
            Version::V2 => self.field("cpu", "cpu.stat", "throttled_usec"),
        }
    }

    /// Memory of files that was not used for long, bytes: the first that the kernel takes back.
    pub(crate) fn inactive_file_bytes(&self) -> u64 {
        match self.version {
            Version::V1 => self.field("memory", "memory.stat", "total_inactive_file"),
            Version::V2 => self.field("memory", "memory.stat", "inactive_file"),
        }
    }

    /// Processes and threads.
    pub(crate) fn process_count(&self) -> u32 {
        self.number("pids", "pids.current", "pids.current").try_into().unwrap_or(u32::MAX)
    }

    fn number(&self, controller: &str, v1: &str, v2: &str) -> u64 {
        let file = if self.version == Version::V1 { v1 } else { v2 };
        let text = fs::read_to_string(self.file(controller, file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn field(&self, controller: &str, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.file(controller, file)).unwrap_or_default();
        let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.find(|(key, _)| *key == name).and_then(|(_, n)| n.trim().parse().ok()).unwrap_or(0)
    }
}
