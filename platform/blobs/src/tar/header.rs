//! One 512-byte block: the fields of POSIX.1-1988 (ustar), as both sides use them.

use super::{MTIME_S, TarError};

pub(super) const BLOCK: usize = 512;

pub(super) type Block = [u8; BLOCK];

/// Largest number in the 12-byte octal size field.
pub(super) const OCTAL_SIZE_MAX: u64 = 0o77_777_777_777;
/// Largest number in an 8-byte octal field.
pub(super) const OCTAL_ID_MAX: u32 = 0o7_777_777;
/// Bytes of the name and of the link name.
pub(super) const NAME_BYTES: usize = 100;

/// A block for an entry. `name` and `link` are cut to what fits.
pub(super) fn encode(
    name: &[u8],
    link: &[u8],
    type_flag: u8,
    mode: u32,
    (uid, gid): (u32, u32),
    size: u64,
) -> Block {
    let mut block = [0; BLOCK];
    put(&mut block[..NAME_BYTES], name);
    octal(&mut block[100..108], u64::from(mode));
    octal(&mut block[108..116], u64::from(uid));
    octal(&mut block[116..124], u64::from(gid));
    octal(&mut block[124..136], size.min(OCTAL_SIZE_MAX));
    octal(&mut block[136..148], MTIME_S);
    block[156] = type_flag;
    put(&mut block[157..157 + NAME_BYTES], link);
    block[257..263].copy_from_slice(b"ustar\0");
    block[263..265].copy_from_slice(b"00");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    let sum = checksum(&block);
    octal(&mut block[148..155], sum);
    block[155] = b' ';
    block
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let count = bytes.len().min(field.len());
    field[..count].copy_from_slice(&bytes[..count]);
}

/// Octal digits that fill the field but for its last byte, which stays zero.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for byte in field[..digits].iter_mut().rev() {
        *byte = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Sum of all bytes with the checksum field counted as spaces.
fn checksum(block: &Block) -> u64 {
    block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(*byte) })
        .sum()
}

pub(super) fn check(block: &Block) -> Result<(), TarError> {
    if number(&block[148..156])? == checksum(block) {
        Ok(())
    } else {
        Err(TarError::Damaged("the checksum of a header is wrong"))
    }
}

/// The bytes of a field before its first zero.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal, or in GNU's base 256 where the first bit is set.
pub(super) fn number(field: &[u8]) -> Result<u64, TarError> {
    const WRONG: TarError = TarError::Damaged("a number in a header is wrong");
    if field[0] & 0x80 != 0 {
        let low = field.len().min(9) - 1;
        let (high, low) = field[1..].split_at(field.len() - 1 - low);
        if field[0] != 0x80 || high.iter().any(|byte| *byte != 0) {
            return Err(WRONG);
        }
        return Ok(low.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|v| v + u64::from(digit - b'0')).ok_or(WRONG),
        _ => Err(WRONG),
    })
}
