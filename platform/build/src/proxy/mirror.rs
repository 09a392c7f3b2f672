//! Mirrors: where the packages of a role come from, in the operator's own network perhaps.
//!
//! A mirror is pinned to its role: steps that name the role (or `all`) reach exactly this host and
//! port, also at a private address, and the role's tools get it as their index.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::Reach;
use super::connect::split;

/// The address of a mirror: `http://` or `https://`, without credentials, which would be readable
/// in every build.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Mirror {
    url: String,
    secure: bool,
    host: String,
    port: u16,
}

/// The mirror of each role: `python`, `node`, `debian`…
pub type Mirrors = BTreeMap<String, Mirror>;

impl FromStr for Mirror {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let secure = url.starts_with("https://");
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let rest = rest.filter(|_| url.len() <= 1024 && url.bytes().all(|b| b.is_ascii_graphic()));
        let authority = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        let found = authority.and_then(|authority| {
            if authority.contains(':') && !authority.ends_with(']') {
                return split(authority);
            }
            split(&format!("{authority}:{}", if secure { 443 } else { 80 }))
        });
        let (host, port) = found.ok_or_else(|| {
            let shown: String = url.chars().take(80).flat_map(char::escape_default).collect();
            format!(
                "'{shown}' is not the address of a mirror: write http://HOST[:PORT]/PATH or https://…, without user or password"
            )
        })?;
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        Ok(Self { url: url.to_owned(), secure, host, port })
    }
}

impl TryFrom<String> for Mirror {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        url.parse()
    }
}

/// Whether a step may go to a host and port because a mirror is pinned there to one of its roles.
pub(super) fn is_pinned(mirrors: &Mirrors, reach: &Reach, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    mirrors.iter().any(|(role, mirror)| {
        let named = match reach {
            Reach::All => true,
            Reach::Roles(roles) => roles.contains(role),
            Reach::None => false,
        };
        named && mirror.host == host && mirror.port == port
    })
}

/// Variables that give the tools of each role its mirror as their index. Debian's packages come
/// from where the sources of the machine say; for them a mirror is only let through.
pub fn variables(mirrors: &Mirrors) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    for (role, mirror) in mirrors {
        let authority = format!("{}:{}", mirror.host, mirror.port);
        match role.as_str() {
            "python" => {
                set("PIP_INDEX_URL", &mirror.url);
                set("UV_DEFAULT_INDEX", &mirror.url);
                if !mirror.secure {
                    set("PIP_TRUSTED_HOST", &authority);
                    set("UV_INSECURE_HOST", &authority);
                }
            }
            "node" => {
                for name in ["YARN_NPM_REGISTRY_SERVER", "YARN_REGISTRY", "npm_config_registry"] {
                    set(name, &mirror.url);
                }
                if !mirror.secure {
                    set("YARN_UNSAFE_HTTP_WHITELIST", &mirror.host);
                }
            }
            _ => {}
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_url_with_a_host_and_no_credentials() {
        let mirror: Mirror = "https://Mirror.example/simple/".parse().unwrap();
        assert_eq!((mirror.host.as_str(), mirror.port), ("mirror.example", 443));
        let mirror: Mirror = "http://10.55.0.1:3141/root".parse().unwrap();
        assert_eq!((mirror.host.as_str(), mirror.port), ("10.55.0.1", 3141));
        for bad in [
            "mirror.example",
            "ftp://mirror.example/",
            "http://",
            "http://me:secret@mirror.example/",
            "http://mirror.example:0/",
            "http://mirror.example/a b",
        ] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_tools_of_a_role_get_its_mirror_as_their_index() {
        let mirrors = [
            ("python".to_owned(), "http://10.55.0.1:3141/simple".parse().unwrap()),
            ("node".to_owned(), "https://npm.internal/".parse().unwrap()),
            ("debian".to_owned(), "http://deb.internal/".parse().unwrap()),
        ];
        let env = variables(&mirrors.into());
        let pairs: Vec<_> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("PIP_INDEX_URL", "http://10.55.0.1:3141/simple"),
                ("PIP_TRUSTED_HOST", "10.55.0.1:3141"),
                ("UV_DEFAULT_INDEX", "http://10.55.0.1:3141/simple"),
                ("UV_INSECURE_HOST", "10.55.0.1:3141"),
                ("YARN_NPM_REGISTRY_SERVER", "https://npm.internal/"),
                ("YARN_REGISTRY", "https://npm.internal/"),
                ("npm_config_registry", "https://npm.internal/"),
            ]
        );
    }
}
