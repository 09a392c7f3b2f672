//! The form of a file: how many things, how many numbers each, for how long.

/// How the numbers of several moments become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Their mean.
    Mean,
    /// The largest.
    Max,
    /// Their sum: what is counted.
    Sum,
}

/// How often, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Milliseconds between two records.
    pub period_ms: u32,
    /// Records of one thing.
    pub records: u32,
}

impl Span {
    /// The period that a moment lies in, counted from 1970.
    pub fn tick(self, at_ms: i64) -> u64 {
        u64::try_from(at_ms).unwrap_or(0) / u64::from(self.period_ms.max(1))
    }

    /// The time that is kept, milliseconds.
    pub fn length_ms(self) -> i64 {
        i64::from(self.period_ms) * i64::from(self.records)
    }
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// As it was written.
    Fine,
    /// Several fine records in one.
    Coarse,
}

/// What a file of rings looks like. Another form is another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// How each number of a record is merged; as many as a record has.
    pub merge: Vec<Merge>,
    /// Things that have a place at one time.
    pub places: u32,
    /// Fine records.
    pub fine: Span,
    /// Coarse records; their period is a multiple of the fine one.
    pub coarse: Span,
}

/// Bytes of the part that says what the form is.
pub(crate) const HEAD_BYTES: u64 = 4096;
/// Bytes of one thing's entry in the directory.
pub(crate) const ENTRY_BYTES: u64 = 256;
/// Rings begin at pages, so that a hole is a hole on the disk.
const PAGE_BYTES: u64 = 4096;

impl Form {
    /// Most bytes that a file of this form takes.
    pub fn bytes_max(&self) -> u64 {
        self.rings_at() + u64::from(self.places) * self.place_bytes()
    }

    /// The span of a resolution.
    pub fn span(&self, resolution: Resolution) -> Span {
        match resolution {
            Resolution::Fine => self.fine,
            Resolution::Coarse => self.coarse,
        }
    }

    /// Fine records in a coarse one.
    pub(crate) fn ratio(&self) -> u64 {
        u64::from(self.coarse.period_ms / self.fine.period_ms.max(1)).max(1)
    }

    /// Bytes of one record: its tick, its check, its numbers.
    pub(crate) fn record_bytes(&self) -> usize {
        8 + 4 * self.merge.len()
    }

    /// Where the rings begin.
    pub(crate) fn rings_at(&self) -> u64 {
        HEAD_BYTES + (u64::from(self.places) * ENTRY_BYTES).next_multiple_of(PAGE_BYTES)
    }

    /// Bytes of one thing's two rings.
    pub(crate) fn place_bytes(&self) -> u64 {
        let records = u64::from(self.fine.records) + u64::from(self.coarse.records);
        (records * self.record_bytes() as u64).next_multiple_of(PAGE_BYTES)
    }

    /// Where one thing's ring begins.
    pub(crate) fn ring_at(&self, place: usize, resolution: Resolution) -> u64 {
        let begin = self.rings_at() + place as u64 * self.place_bytes();
        match resolution {
            Resolution::Fine => begin,
            Resolution::Coarse => begin + u64::from(self.fine.records) * self.record_bytes() as u64,
        }
    }

    /// The form as it stands at the beginning of a file.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = b"berth measures 1".to_vec();
        for number in [
            self.places,
            self.fine.period_ms,
            self.fine.records,
            self.coarse.period_ms,
            self.coarse.records,
        ] {
            head.extend(number.to_le_bytes());
        }
        head.extend(self.merge.iter().map(|merge| match merge {
            Merge::Mean => b'a',
            Merge::Max => b'm',
            Merge::Sum => b's',
        }));
        head
    }
}
