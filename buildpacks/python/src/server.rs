//! The web process: the app's own server, or a pinned one in a layer that goes with it.

use berth_buildpack_kit::{Failure, Process, info, layer, shell};
use serde_json::json;

use crate::app::{App, Interface};
use crate::install::Installed;

/// A server that is added, with what it needs.
struct Server {
    module: &'static str,
    version: &'static str,
    /// With hashes: pip installs exactly this.
    requirements: &'static str,
}

const GUNICORN: Server = Server {
    module: "gunicorn",
    version: "23.0.0",
    requirements: "gunicorn==23.0.0 --hash=sha256:ec400d38950de4dfd418cff8328b2c8faed0edb0d517d3394e457c317908ca4d\n\
                   packaging==26.3 --hash=sha256:d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c\n",
};
const UVICORN: Server = Server {
    module: "uvicorn",
    version: "0.54.0",
    requirements: "click==8.5.1 --hash=sha256:8bb5376d2006950386f8c6427613334a2acadc5f559cb80e638d00b4df957e37\n\
                   h11==0.16.0 --hash=sha256:63cf8bbe7522de3bf65932fda1d9c2772064ffb3dae62d55932da54b31cb6c86\n\
                   uvicorn==0.54.0 --hash=sha256:505bdb0f318731d45f1f712071fc781a8981f6847a31c902c9f5e652d4f67faf\n",
};

/// Starts the server with its own packages last on the path: the app's own versions win.
const START: &str = "import os, runpy, sys\n\
sys.path[0] = os.getcwd()\n\
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'packages'))\n\
sys.argv = sys.argv[1:]\n\
runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n";

/// The process that serves the app.
pub(crate) fn process(app: &App, installed: &Installed) -> Result<Process, Failure> {
    let server = match app.interface {
        Interface::Wsgi => GUNICORN,
        Interface::Asgi => UVICORN,
    };
    let program = if installed.has(server.module) {
        format!("python -m {}", server.module)
    } else {
        format!("python {}/start.py {}", added(&server, installed)?, server.module)
    };
    // 75 s: longer than the router keeps an idle connection, so that it is never the app that closes
    // one which a request is just about to use.
    let arguments = match app.interface {
        Interface::Wsgi => "--bind \"0.0.0.0:${PORT:-5000}\" --workers \"${WEB_CONCURRENCY:-2}\" --worker-class gthread --threads 8 --keep-alive 75 --forwarded-allow-ips '*'".to_owned(),
        Interface::Asgi => {
            let factory = if app.object.ends_with("()") { " --factory" } else { "" };
            format!("--host 0.0.0.0 --port \"${{PORT:-5000}}\" --timeout-keep-alive 75 --proxy-headers --forwarded-allow-ips '*'{factory}")
        }
    };
    let object = match app.interface {
        Interface::Wsgi => app.object.as_str(),
        Interface::Asgi => app.object.trim_end_matches("()"),
    };
    let line = format!("exec {program} {arguments} '{object}'");
    Ok(berth_buildpack_kit::process("web", &["bash", "-c", &line]))
}

/// The layer with the server; gives its path.
fn added(server: &Server, installed: &Installed) -> Result<String, Failure> {
    let key = json!({ "recipe": 1, "requirements": server.requirements });
    let (layer, same) = layer("server", &["launch", "cache"], &key)?;
    let path = layer.path();
    info(&format!(
        "The app names no server: {} {} is added. Name one among its packages to choose it yourself.",
        server.module, server.version
    ));
    if same {
        return Ok(path);
    }
    layer.write("start.py", START.as_bytes(), false)?;
    layer.write("requirements.txt", server.requirements.as_bytes(), false)?;
    let script = format!(
        "/usr/bin/python3 -m pip --python {python} --cache-dir /caches/pip install --quiet --no-compile --no-deps --require-hashes --only-binary :all: --target packages --requirement requirements.txt\n\
         rm -rf packages/bin\n\
         {python} -m compileall -q -j 1 --invalidation-mode unchecked-hash packages >&2",
        python = installed.python
    );
    let step = shell(&script).title(&format!("pip install {} {}", server.module, server.version));
    step.inputs(&[])
        .at(&path)
        .cache("pip")
        .writes("server")
        .network("python")
        .run()?
        .or_fail("server", "The lines above are pip's own.")?;
    Ok(path)
}
