//! Which thing has which place in a file.

use std::collections::HashMap;

use crate::form::ENTRY_BYTES;

/// Longest name.
pub(crate) const NAME_BYTES_MAX: usize = ENTRY_BYTES as usize - HEAD;
/// Check, length, first and last tick.
const HEAD: usize = 4 + 2 + 8 + 8;

/// A thing that has a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Fine ticks.
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Entry {
    /// What its records are bound to.
    pub(crate) fn seed(&self) -> u64 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.name.as_bytes());
        u64::from(hasher.finalize()) << 32 ^ self.first
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend((self.name.len() as u16).to_le_bytes());
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.last.to_le_bytes());
        bytes.extend(self.name.as_bytes());
        bytes.resize(ENTRY_BYTES as usize, 0);
        let check = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Nothing for a place that nobody has, or whose entry is torn.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..4)? != crc32fast::hash(bytes.get(4..)?).to_le_bytes() {
            return None;
        }
        let length = u16::from_le_bytes(bytes.get(4..6)?.try_into().ok()?);
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let name = bytes.get(HEAD..HEAD + usize::from(length))?;
        let name = String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())?;
        Some(Self { name, first: number(6)?, last: number(14)? })
    }
}

/// All places.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    places: Vec<Option<Entry>>,
    by_name: HashMap<String, usize>,
}

impl Directory {
    pub(crate) fn new(places: Vec<Option<Entry>>) -> Self {
        let named = places.iter().enumerate();
        let by_name = named.filter_map(|(place, entry)| Some((entry.clone()?.name, place)));
        Self { by_name: by_name.collect(), places }
    }

    pub(crate) fn find(&self, name: &str) -> Option<(usize, &Entry)> {
        let place = *self.by_name.get(name)?;
        Some((place, self.places[place].as_ref()?))
    }

    /// Every thing and its place.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.places.iter().enumerate().filter_map(|(place, entry)| Some((place, entry.as_ref()?)))
    }

    /// A place for a new thing: a free one, or that of the thing which was written last the longest
    /// ago, unless that was in this tick or the one before.
    pub(crate) fn take(&mut self, name: &str, tick: u64) -> Option<(usize, Entry)> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return None;
        }
        let place = self.places.iter().position(Option::is_none).or_else(|| {
            let oldest = self.all().min_by_key(|(_, entry)| entry.last)?;
            (oldest.1.last + 1 < tick).then_some(oldest.0)
        })?;
        self.free(place);
        let entry = Entry { name: name.to_owned(), first: tick, last: tick };
        self.by_name.insert(name.to_owned(), place);
        self.places[place] = Some(entry.clone());
        Some((place, entry))
    }

    /// The thing was written in this tick.
    pub(crate) fn written(&mut self, place: usize, tick: u64) {
        if let Some(entry) = self.places[place].as_mut() {
            entry.last = entry.last.max(tick);
        }
    }

    pub(crate) fn free(&mut self, place: usize) {
        if let Some(entry) = self.places[place].take() {
            self.by_name.remove(&entry.name);
        }
    }
}
