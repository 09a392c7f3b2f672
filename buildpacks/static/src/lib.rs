//! The `static` buildpack: files behind nginx. The site is the tree itself (`index.html`, `public/`,
//! or what `berth.toml` or a Staticfile names), or what the node buildpack's build script made.
//!
//! nginx comes out of the build stack's own Debian package, so its version is the stack's; its
//! layer is the same bytes for every app. The configuration is a small layer of its own.

mod nginx;
mod site;

use berth_buildpack_kit::{
    Build, Context, Detect, Failure, Outcome, Output, Require, Step, fail, failure, failure_at,
    info, layer, log, output, pass, plan, process, shell, source,
};
use site::Site;

struct Static;

/// Raised when the recipe of the nginx layer changes.
const RECIPE: u32 = 1;

impl Detect for Static {
    fn detect(_: Context) -> Result<Outcome, Failure> {
        let built = plan(&["static"], &["static", "site-build"]);
        let plain = plan(&["static"], &["static"]);
        Ok(match site::find()? {
            Ok(site) if site.built => pass(vec![built])?,
            Ok(_) => pass(vec![plain])?,
            Err(reason) => fail(reason)?,
        })
    }
}

impl Build for Static {
    fn build(_: Context, _: Vec<Require>) -> Result<Output, Failure> {
        let site = site::find()?.map_err(|reason| failure("no-site", reason))?;
        log::header(&format!(
            "Serving {} with nginx",
            if site.root.is_empty() {
                "the whole tree".to_owned()
            } else {
                format!("{}/", site.root)
            }
        ));
        nginx_layer()?;
        let etag =
            if site.built { built_digest(&site)? } else { source::digest(&[site.pattern()]) };
        let (conf, _) = layer("conf", &["launch"], &serde_json::Value::Null)?;
        conf.write("nginx.conf", nginx::config(&site, &etag).as_bytes(), false)?;
        if site.spa {
            info("Unknown paths are answered with index.html");
        }
        let path = format!("{}/nginx.conf", conf.path());
        let mut output = output();
        // `-e stderr`: else nginx first tries a log file under /var/log, which is not ours.
        output
            .processes
            .push(process("web", &["nginx", "-e", "stderr", "-p", "/tmp/", "-c", &path]));
        Ok(output)
    }
}

/// nginx and its MIME types out of the build stack.
fn nginx_layer() -> Result<(), Failure> {
    let (nginx, same) =
        layer("nginx", &["launch", "cache"], &serde_json::json!({ "recipe": RECIPE }))?;
    if same {
        info("nginx is kept from the last build");
        return Ok(());
    }
    let script = format!(
        "mkdir -p {path}/bin\n\
         cp /usr/sbin/nginx {path}/bin/nginx\n\
         cp /etc/nginx/mime.types /usr/share/doc/nginx/copyright {path}/ 2>/dev/null || cp /etc/nginx/mime.types {path}/\n\
         {path}/bin/nginx -v 2>&1 | sed 's/nginx version: //'",
        path = nginx.path()
    );
    shell(&script)
        .title("Taking nginx from the stack")
        .inputs(&[])
        .at(&nginx.path())
        .writes("nginx")
        .run()?
        .or_fail(
            "no-nginx",
            "The build stack has no nginx; make the stack again with 'berth stacks update'.",
        )?;
    Ok(())
}

/// A digest over the files that the build script made.
fn built_digest(site: &Site) -> Result<String, Failure> {
    let directory = format!("/workspace/{}", site.root);
    let script = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum | cut -c1-64";
    let missing = || {
        failure_at(
            "no-output",
            "package.json",
            None,
            format!(
                "the build script made no {}/index.html. Name the directory that it writes in berth.toml: [static] root = \"…\"",
                site.root
            ),
        )
    };
    let there = Step::new(&["test", "-f", &format!("{directory}/index.html")]).quiet().run()?;
    if !there.succeeded() {
        return Err(missing());
    }
    let step =
        shell(script).at(&directory).title("Hashing the built files").quiet().capture().run()?;
    let digest = step
        .or_fail("hash", "This is the platform's mistake, not yours.")?
        .stdout()
        .trim()
        .to_owned();
    Ok(digest)
}

berth_buildpack_kit::export!(Static with_types_in berth_buildpack_kit::bindings);
