//! A token in its compact form (RFC 7515 section 7.1), and what its claims must say.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Longest token, bytes.
const BYTES_MAX: usize = 16 * 1024;

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Missing,
    Form,
    Signature,
    Expired,
    Early,
    Issuer,
    Audience,
}

impl Refusal {
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Missing => "This app asks for a token",
            Self::Form => "The token cannot be read",
            Self::Signature => "The token is not signed with a key that is known here",
            Self::Expired => "The token is no longer valid",
            Self::Early => "The token is not valid yet",
            Self::Issuer => "The token is of another issuer",
            Self::Audience => "The token is not for this app",
        }
    }
}

pub(crate) struct Token<'a> {
    pub(crate) algorithm: String,
    pub(crate) key_id: Option<String>,
    /// What is signed.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Token<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > BYTES_MAX {
            return Err(Refusal::Form);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Form)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Form);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::Form)?;
        // What the token declares critical must be understood, and nothing of that is.
        if header.get("crit").is_some() {
            return Err(Refusal::Form);
        }
        let text = |name: &str| header.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            algorithm: text("alg").ok_or(Refusal::Form)?,
            key_id: text("kid"),
            signed: signed.as_bytes(),
            signature: decode(signature)?,
            payload: decode(payload)?,
        })
    }

    /// What it says; only to be believed when a key verified it.
    pub(crate) fn claims(&self) -> Result<Value, Refusal> {
        serde_json::from_slice::<Value>(&self.payload)
            .ok()
            .filter(Value::is_object)
            .ok_or(Refusal::Form)
    }
}

/// What the claims must say.
pub(crate) struct Rules {
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) leeway_s: u64,
}

impl Rules {
    pub(crate) fn check(&self, claims: Value, now_s: u64) -> Result<Value, Refusal> {
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            // Fractions of a second are allowed, and of no use here.
            Some(value) => value.as_f64().map(|at| Some(at as u64)).ok_or(Refusal::Form),
        };
        let expires = time("exp")?.ok_or(Refusal::Expired)?;
        if expires.saturating_add(self.leeway_s) <= now_s {
            return Err(Refusal::Expired);
        }
        if time("nbf")?.is_some_and(|from| from > now_s.saturating_add(self.leeway_s)) {
            return Err(Refusal::Early);
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        if self.issuer.as_deref().is_some_and(|wanted| issuer != Some(wanted)) {
            return Err(Refusal::Issuer);
        }
        if let Some(wanted) = &self.audience {
            let named = match claims.get("aud") {
                Some(Value::String(only)) => only == wanted,
                Some(Value::Array(all)) => all.iter().any(|one| one == wanted.as_str()),
                _ => false,
            };
            if !named {
                return Err(Refusal::Audience);
            }
        }
        Ok(claims)
    }
}
