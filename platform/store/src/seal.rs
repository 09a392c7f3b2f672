//! Encryption of values at rest: XChaCha20-Poly1305, with the value's place as associated data, so
//! that a sealed value that is moved to another row cannot be read there.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};

use crate::StoreError;

const NONCE_BYTES: usize = 24;

/// Seals and opens values with one key.
pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
    key_id: String,
}

/// Where a value belongs. Each part is written with its length, so no two places look alike.
pub(crate) struct Place<'a>(pub(crate) &'a [&'a str]);

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"berth seal 1\0".to_vec();
        for part in self.0 {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"berth key id 1\0");
        hash.update(key);
        Self {
            cipher: XChaCha20Poly1305::new(key.into()),
            key_id: hex::encode(&hash.finalize()[..8]),
        }
    }

    /// Names the key without telling anything of it.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Nonce, then ciphertext and tag.
    pub(crate) fn seal(&self, place: &Place<'_>, value: &str) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(StoreError::Random)?;
        let payload = Payload { msg: value.as_bytes(), aad: &place.bytes() };
        let sealed = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| StoreError::Unsealed(place.0.join("/")))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub(crate) fn open(
        &self,
        place: &Place<'_>,
        key_id: &str,
        sealed: &[u8],
    ) -> Result<String, StoreError> {
        if key_id != self.key_id {
            let (stored, given) = (key_id.to_owned(), self.key_id.clone());
            return Err(StoreError::WrongKey { stored, given });
        }
        let unreadable = || StoreError::Unsealed(place.0.join("/"));
        let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(unreadable)?;
        let payload = Payload { msg: text, aad: &place.bytes() };
        let opened =
            self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| unreadable())?;
        String::from_utf8(opened).map_err(|_| unreadable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_in_its_own_place_only() {
        let sealer = Sealer::new(&[7; 32]);
        let place = Place(&["config", "app_1", "NAME", "1"]);
        let sealed = sealer.seal(&place, "swordfish").unwrap();
        let id = sealer.key_id();
        assert_eq!(sealer.open(&place, id, &sealed).unwrap(), "swordfish");
        for other in [["config", "app_1", "NAME", "2"], ["config", "app_1N", "AME", "1"]] {
            assert!(matches!(
                sealer.open(&Place(&other), id, &sealed),
                Err(StoreError::Unsealed(_))
            ));
        }
        assert!(sealer.open(&place, id, &sealed[..20]).is_err());
    }

    #[test]
    fn another_key_is_named() {
        let place = Place(&["x"]);
        let (one, two) = (Sealer::new(&[1; 32]), Sealer::new(&[2; 32]));
        let sealed = one.seal(&place, "x").unwrap();
        assert!(matches!(
            two.open(&place, one.key_id(), &sealed),
            Err(StoreError::WrongKey { .. })
        ));
    }
}
