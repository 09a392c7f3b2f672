//! Secrets of extensions: handles, whose value only the host sees.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The value of a secret. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(pub Vec<u8>);

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

impl SecretValue {
    /// HMAC-SHA-256 (RFC 2104) of data under it.
    pub(crate) fn hmac_sha256(&self, data: &[u8]) -> Vec<u8> {
        match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mut mac) => {
                mac.update(data);
                mac.finalize().into_bytes().to_vec()
            }
            // A key of any length is taken.
            Err(_) => Vec::new(),
        }
    }

    /// Whether it is these bytes; the time does not tell where they differ.
    pub(crate) fn equals(&self, bytes: &[u8]) -> bool {
        // Two sums under a key that the caller does not know say nothing of each other.
        self.hmac_sha256(bytes) == self.hmac_sha256(&self.0)
    }
}

/// A handle that a guest holds.
#[expect(unreachable_pub, reason = "the macro re-exports it from a module that is private too")]
pub struct Secret {
    pub(crate) name: String,
    pub(crate) value: SecretValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_and_never_shown() {
        let secret = SecretValue(b"hunter2".to_vec());
        assert!(secret.equals(b"hunter2"));
        assert!(!secret.equals(b"hunter3"));
        assert!(!secret.equals(b""));
        assert_eq!(format!("{secret:?}"), "SecretValue(…)");
    }

    /// RFC 4231, test case 2.
    #[test]
    fn sums_are_those_of_the_standard() {
        let sum = SecretValue(b"Jefe".to_vec()).hmac_sha256(b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    }
}
