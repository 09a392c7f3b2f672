//! Basic authentication (RFC 7617): the token is the password. Pure.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest header that is read, bytes.
const HEADER_BYTES_MAX: usize = 4096;

/// The password, if there is one.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    if value.len() > HEADER_BYTES_MAX {
        return None;
    }
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (_user, password) = decoded.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        token(&headers)
    }

    #[test]
    fn the_password_is_the_token() {
        assert_eq!(
            with(&format!("Basic {}", STANDARD.encode("any:secret:x"))).as_deref(),
            Some("secret:x")
        );
        assert_eq!(
            with(&format!("basic {}", STANDARD.encode(":secret"))).as_deref(),
            Some("secret")
        );
    }

    #[test]
    fn anything_else_is_nobody() {
        assert_eq!(token(&HeaderMap::new()), None);
        for value in [
            "Basic",
            "Basic ###",
            "Bearer abc",
            &format!("Basic {}", STANDARD.encode("user:")),
            &format!("Basic {}", STANDARD.encode("user")),
            &format!("Basic {}", "A".repeat(5000)),
        ] {
            assert_eq!(with(value), None, "{value}");
        }
    }
}
