//! One record on the disk: its tick, a checksum, its numbers.
//!
//! The checksum also covers whose record it is. What was written for another thing in the same
//! place, or is torn, or was never written, reads as nothing.

/// What a number is that was not measured.
const ABSENT: f32 = f32::NAN;

/// The bytes of a record.
pub(crate) fn encode(seed: u64, tick: u64, values: &[Option<f64>]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    for value in values {
        let value = value.map_or(ABSENT, |value| value as f32);
        bytes.extend(value.to_le_bytes());
    }
    let check = check(seed, tick, &bytes[8..]);
    bytes[..4].copy_from_slice(&(tick as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// The numbers of a record, if it is the one of this thing at this tick.
pub(crate) fn decode(seed: u64, tick: u64, bytes: &[u8]) -> Option<Vec<Option<f64>>> {
    let (head, values) = bytes.split_at_checked(8)?;
    if head[..4] != (tick as u32).to_le_bytes()
        || head[4..] != check(seed, tick, values).to_le_bytes()
    {
        return None;
    }
    let read = |bytes: &[u8]| {
        let value = f32::from_le_bytes(bytes.try_into().ok()?);
        (!value.is_nan()).then_some(f64::from(value))
    };
    Some(values.chunks_exact(4).map(read).collect())
}

fn check(seed: u64, tick: u64, values: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&tick.to_le_bytes());
    hasher.update(values);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_only_as_what_it_was_written_for() {
        let values = [Some(1.5), None, Some(0.0)];
        let bytes = encode(7, 1 << 40, &values);
        assert_eq!(decode(7, 1 << 40, &bytes), Some(values.to_vec()));
        assert_eq!(decode(8, 1 << 40, &bytes), None, "of another thing");
        assert_eq!(decode(7, 0, &bytes), None, "of another time");
        assert_eq!(decode(7, 1 << 40, &bytes[..3]), None);
        let mut torn = bytes.clone();
        torn[9] ^= 1;
        assert_eq!(decode(7, 1 << 40, &torn), None);
        assert_eq!(decode(0, 0, &[0; 20]), None, "a hole");
    }
}
