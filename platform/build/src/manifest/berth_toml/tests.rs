//! The file against what people write into it.

use super::*;

fn bad(text: &str) -> String {
    BerthToml::parse(text).unwrap_err().to_string()
}

#[test]
fn every_key_is_read() {
    let settings = BerthToml::parse(
        r#"
        [build]
        buildpacks = ["node", "static"]
        env = { NODE_ENV = "production" }
        [processes.web]
        command = "node server.js --port $PORT"
        check = "/healthz?full=1"
        directory = "server"
        [processes.worker]
        command = ["node", "worker.js"]
        [release]
        command = "node migrate.js"
        [static]
        root = "dist"
        spa = true
        [wasm]
        component = "app.wasm"
        http = ["api.example.com", "*.example.com:8443"]
        secrets = ["STRIPE_KEY"]
        memory = "128MiB"
        cpu_ms = 1_000
        requests = 16
        [python]
        app = "shop.web:app"
        "#,
    )
    .unwrap();
    assert_eq!(settings.buildpacks.unwrap(), ["node", "static"]);
    assert_eq!(settings.build_env["NODE_ENV"], "production");
    let web = &settings.processes[&"web".parse().unwrap()];
    assert_eq!(web.command.as_deref().unwrap(), ["bash", "-c", "node server.js --port $PORT"]);
    assert_eq!(
        (web.check.as_deref(), web.directory.as_deref()),
        (Some("/healthz?full=1"), Some("server"))
    );
    assert_eq!(
        settings.processes[&"worker".parse().unwrap()].command.as_deref().unwrap(),
        ["node", "worker.js"]
    );
    assert_eq!(settings.release.unwrap(), ["bash", "-c", "node migrate.js"]);
    let wasm = settings.wasm;
    let servers: Vec<_> = wasm.http.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["api.example.com", "*.example.com:8443"]);
    assert_eq!(wasm.secrets[0].as_str(), "STRIPE_KEY");
    assert_eq!(wasm.memory, Some(ByteSize(128 << 20)));
    assert_eq!((wasm.cpu_ms, wasm.requests), (Some(1000), Some(16)));
}

#[test]
fn an_unknown_key_is_an_error_with_its_line_and_the_nearest_key() {
    assert_eq!(
        bad("[build]\nbuildpack = []\n"),
        "berth.toml, line 2: unknown key 'buildpack'. Did you mean 'buildpacks'?"
    );
    assert_eq!(
        bad("\n[proceses.web]\ncommand = 'x'\n"),
        "berth.toml, line 2: unknown key 'proceses'. Did you mean 'processes'?"
    );
    assert_eq!(
        bad("[processes.web]\ncomand = 'x'"),
        "berth.toml, line 2: unknown key 'comand'. Did you mean 'command'?"
    );
    assert!(bad("[kubernetes]\n").contains("There are: build, processes"));
    assert_eq!(bad("wasm = 1"), "berth.toml, line 1: 'wasm' must be a table, [wasm].");
}

#[test]
fn values_of_another_type_or_range_are_refused() {
    for (text, part) in [
        ("[build]\nbuildpacks = 'node'", "a list of texts"),
        ("[build]\nbuildpacks = []", "not empty"),
        ("[build]\nbuildpacks = [1]", "in quotes"),
        ("[build.env]\n'A B' = 'x'", "not the name of a variable"),
        ("[build.env]\nA = 1", "in quotes"),
        ("[processes.Web]\ncommand = 'x'", "process type"),
        ("[processes.release]\ncommand = 'x'", "[release]"),
        ("[processes.web]\ncommand = ' '", "not empty"),
        ("[processes.web]\ncheck = 'healthz'", "path of a URL"),
        ("[processes.web]\ncheck = \"/a b\"", "path of a URL"),
        ("[processes.web]\ndirectory = '../x'", "below the app"),
        ("[processes.web]\ndirectory = '/etc'", "below the app"),
        ("[static]\nspa = 'yes'", "true or false"),
        ("[static]\nroot = 1", "in quotes"),
        ("[wasm]\nhttp = ['https://a.example']", "is not a server"),
        ("[wasm]\nhttp = 'a.example'", "a list of texts"),
        ("[wasm]\nsecrets = ['a b']", "'secrets'"),
        ("[wasm]\nmemory = '128'", "from 1MiB"),
        ("[wasm]\nmemory = 'big'", "is not a size"),
        ("[wasm]\ncpu_ms = 0", "a whole number from 1"),
        ("[wasm]\nrequests = '5'", "a whole number from 1"),
        ("[wasm]\nhtp = []", "Did you mean 'http'"),
        ("[wasm]\nbuild = 'go'", "\"javascript\", \"python\" or \"rust\""),
        ("[wasm]\nbuild = true", "in quotes"),
        ("[wasm]\nbuild = 'rust'\ncomponent = 'app.wasm'", "line 2: 'build' makes"),
        ("[wasm]\nbuild = 'python'\nmain = '../app.py'", "path of a file in the commit"),
        ("[wasm]\nbuild = 'python'\nmain = 'a b.py'", "path of a file in the commit"),
        ("[wasm]\nbuild = 'python'\nmain = 'a$(x).py'", "path of a file in the commit"),
        ("[wasm]\nmain = 'app.py'", "line 2: 'main' is read where"),
        ("[build]\n[build]\n", "line 2"),
        ("a = [", "line 1"),
        ("[processes.web]\ncommand = \"a\\u0000b\"", "in quotes"),
    ] {
        let message = bad(text);
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn a_wasm_app_says_what_it_is_built_from() {
    for text in [
        "[wasm]\nbuild = 'rust'",
        "[wasm]\nbuild = 'python'\nmain = './src/my_app.py'",
        "[wasm]\nmain = 'src/index.ts'\nbuild = 'javascript'\nmemory = '256MiB'",
    ] {
        BerthToml::parse(text).unwrap();
    }
}

#[test]
fn an_empty_file_says_nothing() {
    assert_eq!(BerthToml::parse("").unwrap(), BerthToml::default());
}
