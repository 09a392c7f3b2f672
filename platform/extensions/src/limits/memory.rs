//! Sums the memory and the tables of a component. The limiter that comes with the engine looks at
//! each memory alone, so three memories would have three times the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

use super::Limits;

/// Memory that many guests share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    left: Arc<AtomicU64>,
}

impl MemoryBudget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(bytes)) }
    }

    /// Bytes that nobody holds.
    pub fn left_bytes(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What a guest was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It went over its own limit.
    Own,
    /// The budget that it shares with others is used up.
    Shared,
}

/// The memory of one store.
pub(crate) struct MemoryLimiter {
    bytes_max: u64,
    bytes: u64,
    elements_max: u64,
    elements: u64,
    instances_max: usize,
    tables_max: usize,
    memories_max: usize,
    budget: Option<MemoryBudget>,
    /// What the last growth that was allowed added: (bytes, elements).
    last: (u64, u64),
    peak_bytes: u64,
    refused: Option<Refused>,
}

impl MemoryLimiter {
    pub(crate) fn new(limits: &Limits, budget: Option<MemoryBudget>) -> Self {
        Self {
            bytes_max: limits.memory_bytes_max,
            bytes: 0,
            elements_max: u64::from(limits.table_elements_max),
            elements: 0,
            instances_max: limits.instances_max as usize,
            tables_max: limits.tables_max as usize,
            memories_max: limits.memories_max as usize,
            budget,
            last: (0, 0),
            peak_bytes: 0,
            refused: None,
        }
    }

    /// Whether growth was refused, and for whose sake.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Most bytes at once.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Charges what the host keeps for the guest as if it were the guest's own memory; false when
    /// it is too much.
    pub(crate) fn hold(&mut self, more: u64) -> bool {
        if self.bytes.saturating_add(more) > self.bytes_max {
            self.refused = Some(Refused::Own);
            return false;
        }
        if self.budget.as_ref().is_some_and(|budget| !budget.take(more)) {
            self.refused = Some(Refused::Shared);
            return false;
        }
        self.bytes += more;
        self.peak_bytes = self.peak_bytes.max(self.bytes);
        true
    }

    /// Takes back what was charged by [`MemoryLimiter::hold`].
    pub(crate) fn release(&mut self, bytes: u64) {
        self.bytes -= bytes;
        if let Some(budget) = &self.budget {
            budget.give_back(bytes);
        }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let held = self.hold(more);
        if held {
            self.last = (more, 0);
        }
        Ok(held)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let (bytes, _) = std::mem::take(&mut self.last);
        self.release(bytes);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if self.elements.saturating_add(more) > self.elements_max {
            self.refused = Some(Refused::Own);
            return Ok(false);
        }
        self.elements += more;
        self.last = (0, more);
        Ok(true)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let (_, elements) = std::mem::take(&mut self.last);
        self.elements -= elements;
        Ok(())
    }

    fn instances(&self) -> usize {
        self.instances_max
    }

    fn tables(&self) -> usize {
        self.tables_max
    }

    fn memories(&self) -> usize {
        self.memories_max
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 65_536;

    fn limiter(budget: Option<MemoryBudget>) -> MemoryLimiter {
        let limits =
            Limits { memory_bytes_max: 4 * PAGE as u64, table_elements_max: 10, ..Limits::APP };
        MemoryLimiter::new(&limits, budget)
    }

    #[test]
    fn memories_are_summed_and_not_looked_at_one_by_one() {
        let mut limiter = limiter(None);
        assert!(limiter.memory_growing(0, 3 * PAGE, None).unwrap());
        assert!(!limiter.memory_growing(0, 2 * PAGE, None).unwrap());
        assert_eq!(limiter.refused(), Some(Refused::Own));
        assert!(limiter.memory_growing(3 * PAGE, 4 * PAGE, None).unwrap());
        assert_eq!(limiter.peak_bytes(), 4 * PAGE as u64);
    }

    #[test]
    fn tables_are_summed() {
        let mut limiter = limiter(None);
        assert!(limiter.table_growing(0, 6, None).unwrap());
        assert!(!limiter.table_growing(0, 5, None).unwrap());
    }

    #[test]
    fn growth_that_failed_is_not_charged() {
        let budget = MemoryBudget::new(4 * PAGE as u64);
        let mut limiter = limiter(Some(budget.clone()));
        assert!(limiter.memory_growing(0, 4 * PAGE, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert_eq!(budget.left_bytes(), 4 * PAGE as u64);
        assert!(limiter.memory_growing(0, 4 * PAGE, None).unwrap());
    }

    #[test]
    fn what_the_host_keeps_for_a_guest_is_its_memory() {
        let budget = MemoryBudget::new(4 * PAGE as u64);
        let mut limiter = limiter(Some(budget.clone()));
        assert!(limiter.memory_growing(0, 3 * PAGE, None).unwrap());
        assert!(!limiter.hold(2 * PAGE as u64));
        assert!(limiter.hold(PAGE as u64));
        assert!(!limiter.memory_growing(3 * PAGE, 4 * PAGE, None).unwrap());
        limiter.release(PAGE as u64);
        assert_eq!(budget.left_bytes(), PAGE as u64);
    }

    #[test]
    fn a_shared_budget_is_given_back_when_the_guest_is_gone() {
        let budget = MemoryBudget::new(5 * PAGE as u64);
        let mut first = limiter(Some(budget.clone()));
        let mut second = limiter(Some(budget.clone()));
        assert!(first.memory_growing(0, 4 * PAGE, None).unwrap());
        assert!(!second.memory_growing(0, 2 * PAGE, None).unwrap());
        assert_eq!(second.refused(), Some(Refused::Shared));
        drop(first);
        assert!(second.memory_growing(0, 2 * PAGE, None).unwrap());
        drop(second);
        assert_eq!(budget.left_bytes(), 5 * PAGE as u64);
    }
}
