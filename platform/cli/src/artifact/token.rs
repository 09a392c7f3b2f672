//! Proving to a registry who one is: what it asks for (RFC 9110, 11.6.1), and what it is given.

use http_auth::ChallengeRef;
use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::Limits;
use super::login::Login;
use super::place::is_loopback;
use super::registry::{Trouble, body, checked, within};

/// Most bytes of an answer with a token.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What goes with requests to the registry.
pub(super) enum Proof {
    /// The login itself.
    Login,
    Token(String),
}

/// A challenge: its scheme and its parameters.
#[derive(Debug, PartialEq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Reads the challenges of a header's value; one that is odd makes all of them none.
    fn all(value: &str) -> Vec<Self> {
        let read = |challenge: ChallengeRef<'_>| Self {
            scheme: challenge.scheme.to_ascii_lowercase(),
            parameters: challenge
                .params
                .iter()
                .map(|(key, value)| (key.to_ascii_lowercase(), value.to_unescaped()))
                .collect(),
        };
        let all = http_auth::parse_challenges(value).unwrap_or_default();
        all.into_iter().map(read).collect()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Gets what a registry asked for in a 401.
///
/// # Errors
/// It asks for a login and there is none, or it does not take it.
pub(super) async fn obtain(
    http: &reqwest::Client,
    headers: &HeaderMap,
    login: &Login,
    limits: &Limits,
) -> Result<Proof, Trouble> {
    let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
    let challenges: Vec<Challenge> =
        values.filter_map(|value| value.to_str().ok()).flat_map(Challenge::all).collect();
    let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
    match (of("bearer"), of("basic"), login) {
        (Some(bearer), ..) => token(http, bearer, login, limits).await.map(Proof::Token),
        (None, Some(_), Login::Password { .. }) => Ok(Proof::Login),
        (None, Some(_), _) => Err(Trouble::Refused),
        (None, None, _) => {
            Err(Trouble::Odd("it wants a login and does not say of what kind".to_owned()))
        }
    }
}

/// A token of the server that the registry names, as Docker's token authentication has it.
async fn token(
    http: &reqwest::Client,
    challenge: &Challenge,
    login: &Login,
    limits: &Limits,
) -> Result<String, Trouble> {
    let realm = challenge.get("realm").unwrap_or_default();
    let mut url: Url = realm
        .parse()
        .map_err(|_| Trouble::Odd("it names no server that gives tokens".to_owned()))?;
    let host = url.host_str().unwrap_or_default();
    if url.scheme() != "https" && !is_loopback(host.trim_matches(['[', ']'])) {
        let odd =
            format!("it asks for the login at {} without TLS", url.origin().ascii_serialization());
        return Err(Trouble::Odd(odd));
    }
    let service = challenge.get("service").map(|service| ("service", service));
    let scopes = challenge.get("scope").unwrap_or_default().split_whitespace();
    let wanted: Vec<_> = service.into_iter().chain(scopes.map(|scope| ("scope", scope))).collect();
    let request = match login {
        Login::Identity(token) => {
            let scope = challenge.get("scope").unwrap_or_default();
            let service = challenge.get("service").unwrap_or_default();
            http.post(url).form(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("client_id", "berth"),
                ("service", service),
                ("scope", scope),
            ])
        }
        Login::Password { name, password } => {
            url.query_pairs_mut().extend_pairs(wanted);
            http.get(url).basic_auth(name, Some(password))
        }
        Login::Nobody => {
            url.query_pairs_mut().extend_pairs(wanted);
            http.get(url)
        }
    };
    let answer = within(limits.answer, request.send()).await?;
    let answer = match answer.status().as_u16() {
        400 | 401 | 403 => return Err(Trouble::Refused),
        _ => checked(answer, limits).await?,
    };
    let text = body(answer, "the answer with a token", ANSWER_BYTES_MAX, limits).await?;
    let answer: Answer = serde_json::from_slice(&text)
        .map_err(|_| Trouble::Odd("what should be a token is none".to_owned()))?;
    answer
        .token
        .or(answer.access_token)
        .ok_or_else(|| Trouble::Odd("what should be a token is none".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_commas_in_their_values_and_several_in_one_header() {
        let value = "Basic realm=here, charset=\"UTF-8\", \
                     Bearer realm=\"https://auth.example/token\",service=\"reg\", \
                     scope=\"repository:a/b:pull,push\"";
        let [basic, bearer] = &Challenge::all(value)[..] else { panic!("{value}") };
        assert_eq!((basic.scheme.as_str(), basic.get("realm")), ("basic", Some("here")));
        assert_eq!(bearer.scheme, "bearer");
        assert_eq!(bearer.get("realm"), Some("https://auth.example/token"));
        assert_eq!(bearer.get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(bearer.get("nonce"), None);
        assert_eq!(Challenge::all("Basic")[0].parameters, Vec::new());
        for bad in ["", "Bearer realm=\"open"] {
            assert_eq!(Challenge::all(bad), Vec::new(), "{bad}");
        }
    }
}
