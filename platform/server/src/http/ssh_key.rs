//! Reads a public key in the format of OpenSSH: one line, `TYPE BASE64 [COMMENT]`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// Types that may push. Old DSA keys are not among them.
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Shorter RSA keys can be broken.
const RSA_BITS_MIN: usize = 2048;

/// A public key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    /// `SHA256:` and base64 without padding.
    pub(super) fingerprint: String,
    /// Type and key, without a comment.
    pub(super) line: String,
}

impl std::str::FromStr for PublicKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("PRIVATE KEY") {
            return Err(
                "this is a private key, which nobody else should ever see; give the .pub file",
            );
        }
        let text = text.trim();
        if text.len() > LINE_BYTES_MAX || text.contains(['\n', '\r']) {
            return Err("give one line in the format of OpenSSH: ssh-ed25519 AAAA… comment");
        }
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(base64)) = (words.next(), words.next()) else {
            return Err("give a line in the format of OpenSSH: ssh-ed25519 AAAA… comment");
        };
        if kind == "ssh-dss" {
            return Err("DSA keys are too weak; make another one with ssh-keygen -t ed25519");
        }
        if !TYPES.contains(&kind) {
            return Err("this type of key is not known; make one with ssh-keygen -t ed25519");
        }
        let blob = STANDARD.decode(base64).map_err(|_| "the key is cut off or not base64")?;
        let fields = fields(&blob).ok_or("the key is cut off or damaged")?;
        if fields.first() != Some(&kind.as_bytes()) || fields.len() < 2 {
            return Err("the key is damaged: it is not of the type that it begins with");
        }
        if kind == "ssh-rsa" {
            let modulus = fields.get(2).copied().unwrap_or_default();
            let bytes =
                modulus.iter().position(|byte| *byte != 0).map_or(0, |at| modulus.len() - at);
            if bytes * 8 < RSA_BITS_MIN {
                return Err("RSA keys need 2048 bits; make another one with ssh-keygen -t ed25519");
            }
        }
        Ok(Self {
            fingerprint: format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&blob))),
            line: format!("{kind} {base64}"),
        })
    }
}

/// The strings of RFC 4251 that the key consists of.
fn fields(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        fields.push(field);
        blob = rest;
        if fields.len() > 8 {
            return None;
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with ssh-keygen, as is the fingerprint.
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO4OJQChOPeKTLlmiNo30923XiSUZBt0Tiaz2XF2Eaze comment";

    #[test]
    fn a_key_is_known_by_the_fingerprint_that_openssh_shows() {
        let key: PublicKey = KEY.parse().unwrap();
        assert_eq!(key.fingerprint, "SHA256:0GxylpcNB8+rLZ6+wQvcZjTiDcGbmlk5Sh2mlCYRc10");
        assert_eq!(key.line, KEY.strip_suffix(" comment").unwrap());
    }

    #[test]
    fn what_is_no_good_key_is_refused() {
        let cut = &KEY[..60];
        let other = KEY.replacen("ssh-ed25519", "ecdsa-sha2-nistp256", 1);
        for text in [
            "",
            "ssh-ed25519",
            "ssh-dss AAAA",
            "ssh-foo AAAA",
            "ssh-ed25519 %%%",
            cut,
            &other,
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "a b\nc d",
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }
}
