//! Keys, each for one algorithm (RFC 7518).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::EncodedPoint;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::bindings::berth::secrets::secrets::Secret;
use crate::token::Token;

const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

pub(crate) enum Key {
    /// HS256, by a secret that the host keeps.
    Hmac(Secret),
    /// RS256.
    Rsa { id: Option<String>, key: Box<RsaPublicKey> },
    /// ES256.
    P256 { id: Option<String>, key: Box<VerifyingKey> },
}

impl Key {
    /// Reads a JWK (RFC 7517).
    pub(crate) fn read(jwk: &Value) -> Result<Self, String> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            text(name)
                .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
                .ok_or_else(|| format!("{name} is missing or is not base64url"))
        };
        let id = text("kid").map(str::to_owned);
        match (text("kty"), text("alg")) {
            (Some("RSA"), None | Some("RS256")) => {
                let n = BigUint::from_bytes_be(&bytes("n")?);
                let e = BigUint::from_bytes_be(&bytes("e")?);
                if !RSA_BITS.contains(&n.bits()) {
                    return Err(format!("an RSA key of {} bits; 2048 to 4096 are taken", n.bits()));
                }
                let key = RsaPublicKey::new(n, e).map_err(|error| error.to_string())?;
                Ok(Self::Rsa { id, key: Box::new(key) })
            }
            (Some("EC"), None | Some("ES256")) if text("crv") == Some("P-256") => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != 32 || y.len() != 32 {
                    return Err("x and y have 32 bytes each".to_owned());
                }
                let point = EncodedPoint::from_affine_coordinates(
                    x.as_slice().into(),
                    y.as_slice().into(),
                    false,
                );
                let key = VerifyingKey::from_encoded_point(&point)
                    .map_err(|_| "x and y are no point of P-256".to_owned())?;
                Ok(Self::P256 { id, key: Box::new(key) })
            }
            _ => Err("RSA keys for RS256 and P-256 keys for ES256 are taken".to_owned()),
        }
    }

    /// Whether this key made the token's signature.
    pub(crate) fn verifies(&self, token: &Token<'_>) -> bool {
        let named = |id: &Option<String>| match (id, &token.key_id) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        match self {
            Self::Hmac(secret) => {
                token.algorithm == "HS256"
                    && same(&secret.hmac_sha256(token.signed), &token.signature)
            }
            Self::Rsa { id, key } => {
                token.algorithm == "RS256"
                    && named(id)
                    && key
                        .verify(
                            Pkcs1v15Sign::new::<Sha256>(),
                            &Sha256::digest(token.signed),
                            &token.signature,
                        )
                        .is_ok()
            }
            Self::P256 { id, key } => {
                token.algorithm == "ES256"
                    && named(id)
                    && Signature::from_slice(&token.signature)
                        .is_ok_and(|signature| key.verify(token.signed, &signature).is_ok())
            }
        }
    }
}

/// Compares in constant time.
fn same(ours: &[u8], theirs: &[u8]) -> bool {
    let differs = ours.iter().zip(theirs).fold(0, |sum, (a, b)| sum | (a ^ b));
    ours.len() == theirs.len() && std::hint::black_box(differs) == 0
}
