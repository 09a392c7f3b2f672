//! Who protects which digest from the garbage collection of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_model::Digest;

#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    counts: Arc<Mutex<HashMap<Digest, u32>>>,
}

/// Digests that [`crate::BlobStore::gc`] keeps until this is dropped.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    digests: Vec<Digest>,
}

impl Lease {
    /// Protects one more blob by the same lease.
    pub fn add(&mut self, digest: Digest) {
        *self.leases.lock().entry(digest).or_default() += 1;
        self.digests.push(digest);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut counts = self.leases.lock();
        for digest in &self.digests {
            if let Some(count) = counts.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(digest);
                }
            }
        }
    }
}

impl Leases {
    pub(super) fn take(&self, digests: impl IntoIterator<Item = Digest>) -> Lease {
        let mut lease = Lease { leases: self.clone(), digests: Vec::new() };
        digests.into_iter().for_each(|digest| lease.add(digest));
        lease
    }

    /// Runs `remove` if nobody holds the digest; nobody can take it meanwhile.
    pub(super) fn unless_leased<T>(
        &self,
        digest: &Digest,
        remove: impl FnOnce() -> T,
    ) -> Option<T> {
        let counts = self.lock();
        (!counts.contains_key(digest)).then(remove)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, u32>> {
        // Every critical section leaves the map whole, also when `remove` panics.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
