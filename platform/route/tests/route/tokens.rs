//! The extension `berth.jwt` against tokens that OpenSSL signed.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

use crate::middleware::{Installed, ask, behind};
use crate::support::{App, Router};

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut running = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    running.stdin.take().unwrap().write_all(input).unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn encode(value: &Value) -> String {
    BASE64.encode(value.to_string())
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    format!("{signed}.{}", BASE64.encode(sign(signed.as_bytes())))
}

fn hs256(key: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    let option = format!("key:{key}");
    move |data| openssl(&["dgst", "-sha256", "-mac", "HMAC", "-macopt", &option, "-binary"], data)
}

fn with_key(file: &Path) -> impl Fn(&[u8]) -> Vec<u8> {
    let file = file.display().to_string();
    move |data| openssl(&["dgst", "-sha256", "-sign", &file], data)
}

/// An ECDSA signature as JOSE has it (RFC 7518 section 3.4), of the DER that OpenSSL writes.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut numbers = &der[2..];
    let mut fixed = Vec::new();
    for _ in 0..2 {
        let length = usize::from(numbers[1]);
        let number = &numbers[2..2 + length];
        let digits = &number[number.len().saturating_sub(32)..];
        fixed.extend(std::iter::repeat_n(0, 32 - digits.len()));
        fixed.extend_from_slice(digits);
        numbers = &numbers[2 + length..];
    }
    fixed
}

async fn status(router: &Router, token: &str) -> u16 {
    ask(router, "/", &format!("Authorization: Bearer {token}\r\n")).await.status
}

#[tokio::test]
async fn a_token_is_taken_when_it_is_signed_valid_and_meant_for_the_app() {
    let app = App::mirror().await;
    let config = json!({
        "hs256": true, "issuer": "me", "audience": "app", "cookie": "session",
        "headers": { "x-auth-user": "sub", "x-auth-level": "level" },
    });
    let jwt = Installed::plugin("jwt", config).secret("hs256", "a key of some length");
    let router = behind(&app, &[&jwt]).await;
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let good = json!({
        "iss": "me", "aud": ["other", "app"], "sub": "ann", "level": 3, "exp": now_s() + 60,
    });
    let signed = token(&header, &good, hs256("a key of some length"));
    let forged = "X-Auth-User: root\r\nX-Auth-Level: 9\r\n";
    let reply = ask(&router, "/", &format!("Authorization: Bearer {signed}\r\n{forged}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains("x-auth-user: ann\n"), "{}", reply.text());
    assert!(reply.text().contains("x-auth-level: 3\n"), "{}", reply.text());
    assert!(!reply.text().contains("root"));
    let cookie = ask(&router, "/", &format!("Cookie: a=b; session={signed}\r\n")).await;
    assert_eq!(cookie.status, 200);

    let missing = ask(&router, "/", "").await;
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("Bearer")));
    let change = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        token(&header, &claims, hs256("a key of some length"))
    };
    for (what, refused) in [
        ("expired", change("exp", json!(now_s() - 60))),
        ("without an end", change("exp", Value::Null)),
        ("early", change("nbf", json!(now_s() + 300))),
        ("of another", change("iss", json!("you"))),
        ("for another", change("aud", json!("other"))),
        ("of another key", token(&header, &good, hs256("another key of length"))),
        ("unsigned", token(&json!({ "alg": "none" }), &good, |_| Vec::new())),
        (
            "critical",
            token(
                &json!({ "alg": "HS256", "crit": ["b64"] }),
                &good,
                hs256("a key of some length"),
            ),
        ),
        ("cut", signed[..signed.len() - 2].to_owned()),
        ("no token", "a.b.c".to_owned()),
    ] {
        assert_eq!(status(&router, &refused).await, 401, "{what}");
    }
    let within_leeway = change("exp", json!(now_s() - 10));
    assert_eq!(status(&router, &within_leeway).await, 200);
    router.end().await;
}

#[tokio::test]
async fn keys_of_rsa_and_p256_verify_their_own_algorithm_only() {
    let folder = tempfile::tempdir().unwrap();
    let (rsa, ec) = (folder.path().join("rsa.pem"), folder.path().join("ec.pem"));
    std::fs::write(&rsa, openssl(&["genrsa", "2048"], b"")).unwrap();
    std::fs::write(&ec, openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], b""))
        .unwrap();
    let rsa_file = rsa.display().to_string();
    let modulus = openssl(&["rsa", "-in", &rsa_file, "-noout", "-modulus"], b"");
    let modulus = String::from_utf8(modulus).unwrap();
    let modulus = modulus.trim().strip_prefix("Modulus=").unwrap().to_owned();
    let modulus: Vec<u8> = (0..modulus.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&modulus[at..at + 2], 16).unwrap())
        .collect();
    let public =
        openssl(&["ec", "-in", &ec.display().to_string(), "-pubout", "-outform", "DER"], b"");
    let point = &public[public.len() - 64..];
    let app = App::mirror().await;
    let jwt = Installed::plugin(
        "jwt",
        json!({ "keys": [
            { "kty": "RSA", "kid": "one", "n": BASE64.encode(&modulus), "e": "AQAB" },
            { "kty": "EC", "crv": "P-256", "x": BASE64.encode(&point[..32]), "y": BASE64.encode(&point[32..]) },
        ] }),
    );
    let router = behind(&app, &[&jwt]).await;
    let claims = json!({ "sub": "ann", "exp": now_s() + 60 });
    let header = |algorithm: &str, id: &str| json!({ "alg": algorithm, "kid": id });
    let es256 = |data: &[u8]| fixed(&with_key(&ec)(data));
    for (algorithm, id, sign, expected) in [
        ("RS256", "one", &with_key(&rsa) as &dyn Fn(&[u8]) -> Vec<u8>, 200),
        ("RS256", "two", &with_key(&rsa), 401),
        ("ES256", "any", &es256, 200),
        ("RS256", "one", &es256, 401),
        ("ES256", "one", &with_key(&rsa), 401),
        // The public key as a shared secret: the confusion that RFC 8725 warns of.
        ("HS256", "one", &hs256("n"), 401),
        ("none", "one", &|_: &[u8]| Vec::new(), 401),
    ] {
        let token = token(&header(algorithm, id), &claims, sign);
        assert_eq!(status(&router, &token).await, expected, "{algorithm} {id}");
    }
    router.end().await;
}
