//! Keeps the cookies of the platform's console from apps, both ways.
//!
//! Cookies ignore ports, and hosts of one site may set cookies for each other. So what signs somebody
//! in to the console could reach an app that is served under the same name, and an app could put
//! another session in its place. Apps neither get nor set cookies with the console's names. What a
//! cookie without a name has as its value counts as well: browsers send it as if it were both.

use http::header::{self, HeaderMap, HeaderValue};

/// Names of the console's cookies, with TLS and without.
const NAMES: [&[u8]; 2] = [b"__Host-berth-session", b"berth-session"];

/// Whether a pair `name=value`, as a browser sends and a server sets it, has a name of ours.
fn is_ours(pair: &[u8]) -> bool {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'=';
    let start = pair.iter().position(|byte| !blank(byte)).unwrap_or(pair.len());
    let pair = &pair[start..];
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    NAMES.iter().any(|own| name.trim_ascii().eq_ignore_ascii_case(own))
}

/// Removes the console's cookies from what a client sends.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    let pairs = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b';').any(is_ours);
    if !headers.get_all(header::COOKIE).iter().any(pairs) {
        return;
    }
    let lines: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| {
            let kept = value.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_ours(pair));
            let kept: Vec<&[u8]> = kept.map(<[u8]>::trim_ascii).collect();
            HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok().filter(|value| !value.is_empty())
        })
        .collect();
    headers.remove(header::COOKIE);
    for line in lines {
        headers.append(header::COOKIE, line);
    }
}

/// Removes what sets the console's cookies from what an app answers.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    let sets_ours = |value: &HeaderValue| {
        is_ours(value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default())
    };
    if !headers.get_all(header::SET_COOKIE).iter().any(sets_ours) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter(|value| !sets_ours(value))
        .cloned()
        .collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(headers: &HeaderMap, name: header::HeaderName) -> Vec<&str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn an_app_does_not_get_the_consoles_cookies() {
        for (sent, left) in [
            (vec!["a=1; berth-session=x; b=2"], vec!["a=1; b=2"]),
            (vec!["__Host-berth-session=x"], vec![]),
            (vec!["a=1", "berth-session=x", "b=2"], vec!["a=1", "b=2"]),
            (vec!["Berth-Session =x;a=1"], vec!["a=1"]),
            (vec!["=berth-session=x; a=1"], vec!["a=1"]),
            (vec!["berth-session"], vec![]),
            (
                vec!["my-berth-session=x; berth-sessions=y"],
                vec!["my-berth-session=x; berth-sessions=y"],
            ),
            (vec!["a=berth-session=x;b=1"], vec!["a=berth-session=x;b=1"]),
        ] {
            let mut headers = HeaderMap::new();
            for line in &sent {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            strip_request(&mut headers);
            assert_eq!(all(&headers, header::COOKIE), left, "{sent:?}");
        }
    }

    #[test]
    fn an_app_does_not_set_the_consoles_cookies() {
        let mut headers = HeaderMap::new();
        for line in [
            "a=1; Path=/",
            "berth-session=evil; Path=/",
            "__host-berth-session=evil; Path=/; Secure",
            " =berth-session=evil",
            "berth-session",
            "b=berth-session",
        ] {
            headers.append(header::SET_COOKIE, line.parse().unwrap());
        }
        strip_response(&mut headers);
        assert_eq!(all(&headers, header::SET_COOKIE), ["a=1; Path=/", "b=berth-session"]);
    }
}
