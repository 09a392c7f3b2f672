//! Extensions over the HTTP API, as any client of it installs and changes them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

use crate::Platform;
use crate::platform::programs;
use crate::wait_for;

/// The header of somebody whom [`basic_auth`] lets in.
pub const ANN: (&str, &str) = ("authorization", "Basic YW5uOm9uZQ==");

/// A call of `/v1/extensions` and what is below it, as the administrator, which must succeed; gives
/// what it answered.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn api(platform: &Platform, method: Method, path: &str, body: Option<Value>) -> Value {
    let url = format!("http://{}/v1/extensions{path}", platform.api);
    let request = Client::new().request(method, url).bearer_auth(&platform.token);
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    };
    said(request.send().expect("an answer"))
}

/// Installs a component for an app and grants what it asks for; gives its id.
///
/// # Panics
/// When it is not what runs then.
#[track_caller]
pub fn install(platform: &Platform, component: &[u8], app: &str, config: &Value) -> String {
    let post = |query: &[(&str, &str)]| {
        let url = format!("http://{}/v1/extensions", platform.api);
        let request = Client::new().post(url).query(query).bearer_auth(&platform.token);
        let request = request.header("content-type", "application/wasm").body(component.to_vec());
        said(request.send().expect("an answer"))
    };
    let review = post(&[("review", "true")]);
    let accept = review["hash"].as_str().expect("a hash");
    let config = config.to_string();
    let installed = post(&[("accept", accept), ("apps", app), ("config", &config)]);
    assert_eq!(installed["live"], true, "{installed}");
    installed["extension"]["id"].as_str().expect("its id").to_owned()
}

#[track_caller]
fn said(answer: Response) -> Value {
    let (status, url) = (answer.status(), answer.url().clone());
    let text = answer.text().expect("a text");
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

/// An extension that ships with Berth.
///
/// # Panics
/// When it was not built.
pub fn plugin(name: &str) -> Vec<u8> {
    let file = programs().join("plugins").join(name).with_extension("wasm");
    std::fs::read(file).expect("`cargo xtask build` makes it")
}

/// A component with a custom section more (WebAssembly core specification, 5.5.3): its manifest, or
/// anything that makes it another component.
pub fn with_section(mut component: Vec<u8>, name: &str, content: &[u8]) -> Vec<u8> {
    let body = [&leb128(name.len()), name.as_bytes(), content].concat();
    component.push(0);
    component.extend(leb128(body.len()));
    component.extend(body);
    component
}

/// The extension `basic-auth`, of which another version says `Basic realm` in these words.
///
/// # Panics
/// When they are not as long.
pub fn reworded(words: &str) -> Vec<u8> {
    const SAYS: &str = "Basic realm";
    assert_eq!(words.len(), SAYS.len(), "nothing else in the component may move");
    let mut component = plugin("basic-auth");
    let all = component.windows(SAYS.len()).enumerate();
    let found: Vec<_> =
        all.filter(|(_, part)| *part == SAYS.as_bytes()).map(|(at, _)| at).collect();
    assert!(!found.is_empty(), "basic-auth does not say {SAYS:?}");
    for at in found {
        component[at..at + words.len()].copy_from_slice(words.as_bytes());
    }
    component
}

/// A folder that the platform may read, and the configuration in which it follows it.
///
/// # Panics
/// When it cannot be made.
pub fn extension_folder() -> (tempfile::TempDir, String) {
    let readable = std::fs::Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new().permissions(readable).tempdir().expect("a folder");
    let config = format!("[extensions]\nfolder = {:?}\n", folder.path());
    (folder, config)
}

/// Puts the file of `basic-auth` there as a build does, and gives when it appeared.
///
/// # Panics
/// When it cannot be written.
pub fn put(folder: &Path, component: &[u8]) -> Instant {
    let beside = folder.join("basic-auth.wasm.new");
    std::fs::write(&beside, component).expect("it can be written");
    let appears = Instant::now();
    std::fs::rename(&beside, folder.join("basic-auth.wasm")).expect("it can be renamed");
    appears
}

/// A GET to an app, with headers by name and value.
///
/// # Panics
/// When there is no answer.
pub fn ask(platform: &Platform, app: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let client = platform.client(&format!("{app}.localhost"));
    let mut request = client.get(platform.url(app, path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().expect("an answer")
}

/// The status of such a request.
///
/// # Panics
/// When there is no answer.
pub fn status(platform: &Platform, app: &str, headers: &[(&str, &str)]) -> u16 {
    ask(platform, app, "/", headers).status().as_u16()
}

/// Waits until an app answers so: a change reaches the router a moment after it was made.
///
/// # Panics
/// When it does not within 20 s.
pub fn answers(platform: &Platform, app: &str, headers: &[(&str, &str)], wanted: u16) {
    let what = format!("{app} to answer {wanted}");
    wait_for(&what, 20, || (status(platform, app, headers) == wanted).then_some(()));
}

/// Installs the extension `basic-auth` for an app with one user, and waits until it stands before it.
///
/// # Panics
/// When it does not.
pub fn basic_auth(platform: &Platform, app: &str) -> String {
    let id = install(platform, &plugin("basic-auth"), app, &json!({}));
    answers(platform, app, &[ANN], 401);
    let value = json!({ "value": "ann:one" });
    api(platform, Method::PUT, &format!("/{id}/secrets/users"), Some(value));
    answers(platform, app, &[ANN], 200);
    id
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
