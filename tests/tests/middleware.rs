//! What the middlewares that ship do before a real app.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use acceptance::extensions::{ANN, answers, api, ask, basic_auth, install, plugin, status};
use acceptance::{Platform, Repository, wait_for};
use reqwest::Method;
use serde_json::{Value, json};

/// Answers with the head that it was sent.
const MIRROR: &str = "\
import http.server, os

class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = str(self.headers).lower().encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(text)))
        self.send_header('X-From-App', 'yes')
        self.end_headers()
        self.wfile.write(text)

http.server.ThreadingHTTPServer(('', int(os.environ['PORT'])), Mirror).serve_forever()
";

/// Makes tokens as others make them.
const TOKENS: &str = "\
import base64, hashlib, hmac, json, subprocess, sys, time

def url(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=')

def token(algorithm, claims, sign):
    head = url(json.dumps({'alg': algorithm, 'typ': 'JWT'}).encode())
    text = head + b'.' + url(json.dumps(claims).encode())
    return (text + b'.' + url(sign(text))).decode()

def openssl(*arguments, data=None):
    return subprocess.run(['openssl', *arguments], input=data, check=True, capture_output=True).stdout

folder = sys.argv[1]
openssl('genrsa', '-out', folder + '/key', '2048')
modulus = openssl('rsa', '-in', folder + '/key', '-noout', '-modulus').decode().strip().split('=')[1]
rsa = lambda text: openssl('dgst', '-sha256', '-sign', folder + '/key', data=text)
own = lambda text: hmac.new(b'shared', text, hashlib.sha256).digest()
now = int(time.time())
print(json.dumps({
    'key': {'kty': 'RSA', 'n': url(bytes.fromhex(modulus)).decode(), 'e': 'AQAB'},
    'rs256': token('RS256', {'sub': 'ann', 'exp': now + 3600}, rsa),
    'hs256': token('HS256', {'sub': 'bob', 'exp': now + 3600}, own),
    'expired': token('RS256', {'sub': 'ann', 'exp': now - 3600}, rsa),
    'forged': token('HS256', {'sub': 'eve', 'exp': now + 3600}, lambda text: b'0' * 32),
}))
";

#[test]
fn the_middlewares_that_ship_do_their_work_before_a_real_app() {
    let mut platform = Platform::start();
    let repository = Repository::new();
    repository.write("requirements.txt", "").write("app.py", MIRROR);
    repository.write("Procfile", "web: python3 app.py\n").commit("A mirror");
    repository.deploy(&platform, "app");

    let auth = basic_auth(&platform, "app");
    let refused = ask(&platform, "app", "/", &[]);
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().contains_key("www-authenticate"));
    assert_eq!(status(&platform, "app", &[("authorization", "Basic YW5uOnR3bw==")]), 401);
    let admitted = ask(&platform, "app", "/", &[ANN, ("x-auth-user", "root")]).text().unwrap();
    assert!(admitted.contains("x-auth-user: ann\n"), "{admitted}");
    assert!(!admitted.contains("root") && !admitted.contains("authorization"), "{admitted}");
    let shown = api(&platform, Method::GET, &format!("/{auth}"), None).to_string();
    assert!(!shown.contains("ann:one"), "{shown}");
    api(&platform, Method::POST, &format!("/{auth}/disable"), None);
    answers(&platform, "app", &[], 200);
    api(&platform, Method::DELETE, &format!("/{auth}"), None);

    rules(&platform);
    tokens(&platform);
    limits(&mut platform);
}

/// Headers are changed, but for those that are the router's.
fn rules(platform: &Platform) {
    const HOSTS: [&str; 11] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "x-forwarded-for",
        "x-real-ip",
        "x-request-id",
    ];
    let mut set: serde_json::Map<_, _> =
        HOSTS.iter().map(|name| ((*name).to_owned(), json!("forged"))).collect();
    set.insert("x-stage".to_owned(), json!("test"));
    let response = json!({ "set": set, "remove": ["x-from-app"] });
    let config = json!({ "request": { "set": set, "remove": ["x-debug"] }, "response": response });
    let id = install(platform, &plugin("header-rules"), "app", &config);
    let answer = wait_for("the rules", 20, || {
        let answer = ask(platform, "app", "/", &[("x-debug", "1")]);
        answer.headers().contains_key("x-stage").then_some(answer)
    });
    assert!(!answer.headers().contains_key("x-from-app"));
    assert!(!format!("{:?}", answer.headers()).contains("forged"), "{:?}", answer.headers());
    let seen = answer.text().unwrap();
    assert!(seen.contains("x-stage: test\n") && !seen.contains("x-debug"), "{seen}");
    assert!(!seen.contains("forged"), "{seen}");
    assert!(seen.contains("host: app.localhost") && seen.contains("x-forwarded-for: 127.0.0.1"));
    wait_for("the refusals in its log", 10, || {
        let log = api(platform, Method::GET, &format!("/{id}/log"), None).to_string();
        HOSTS
            .iter()
            .all(|name| log.contains(&format!("the header {name} cannot be changed")))
            .then_some(())
    });
    api(platform, Method::DELETE, &format!("/{id}"), None);
}

/// Tokens that Python and OpenSSL made are taken, others are not.
fn tokens(platform: &Platform) {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("python3").args(["-c", TOKENS]).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let config = json!({ "keys": [made["key"]], "hs256": true });
    let id = install(platform, &plugin("jwt"), "app", &config);
    let bearer = |name: &str| format!("Bearer {}", made[name].as_str().unwrap());
    let with = |name: &str| status(platform, "app", &[("authorization", &bearer(name))]);
    // One of its keys is missing, so nobody is let in.
    answers(platform, "app", &[("authorization", &bearer("rs256"))], 401);
    let value = json!({ "value": "shared" });
    api(platform, Method::PUT, &format!("/{id}/secrets/hs256"), Some(value));
    answers(platform, "app", &[("authorization", &bearer("rs256"))], 200);
    let statuses = ["hs256", "expired", "forged"].map(with);
    assert_eq!(statuses, [200, 401, 401]);
    assert_eq!(status(platform, "app", &[]), 401);
    let headers = [("authorization", &*bearer("hs256")), ("x-auth-user", "root")];
    let seen = ask(platform, "app", "/", &headers).text().unwrap();
    assert!(seen.contains("x-auth-user: bob\n") && !seen.contains("root"), "{seen}");
    api(platform, Method::DELETE, &format!("/{id}"), None);
    answers(platform, "app", &[], 200);
}

/// Counts hold while berthd and the app are replaced, and begin again by the clock.
fn limits(platform: &mut Platform) {
    let config = json!({ "requests": 3, "window-s": 3600, "by-header": "x-key" });
    let id = install(platform, &plugin("rate-limit"), "app", &config);
    let with = |platform: &Platform, key: &str| status(platform, "app", &[("x-key", key)]);
    wait_for("the limit", 20, || (with(platform, "first") == 429).then_some(()));
    let statuses: Vec<_> = (0..4).map(|_| with(platform, "second")).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    platform.kill();
    assert_eq!(with(platform, "second"), 429);
    platform.serve().unwrap();
    platform.must(&["config", "set", "--app", "app", "X=y"]);
    assert_eq!(with(platform, "second"), 429);
    assert_eq!(with(platform, "third"), 200);
    let config = json!({ "requests": 3, "window-s": 2, "by-header": "x-key" });
    api(platform, Method::PUT, &format!("/{id}/config"), Some(config));
    let mut keys = (0..).map(|number| format!("short-{number}"));
    let key = wait_for("the shorter window", 20, || {
        let key = keys.next()?;
        for _ in 0..3 {
            ask(platform, "app", "/", &[("x-key", &key)]);
        }
        let last = ask(platform, "app", "/", &[("x-key", &key)]);
        let wait: u64 = last.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
        (wait <= 2).then_some(key)
    });
    wait_for("the next window", 5, || (with(platform, &key) == 200).then_some(()));
    assert_eq!(with(platform, "second"), 429, "its window is the long one still");
}
