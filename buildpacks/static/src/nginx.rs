//! The configuration of nginx for one site. Pure.

use crate::site::Site;

/// Files at the top of the tree that are for the platform, not for visitors.
const PRIVATE: &str = r"^/(Procfile|Staticfile|app\.json|berth\.toml|project\.toml)$";

/// An nginx configuration that listens on port 5000 and writes below /tmp alone.
///
/// Every file of the image has the same modification time within a release, so nginx's own ETag
/// (time and size) would call two versions of a file equal when two commits are made within a second.
/// `etag` is a digest of all files of the site and takes its place.
pub(crate) fn config(site: &Site, etag: &str) -> String {
    let root = if site.root.is_empty() {
        "/workspace".to_owned()
    } else {
        format!("/workspace/{}", site.root)
    };
    let fallback = if site.spa { "/index.html" } else { "=404" };
    let etag: String = etag.chars().filter(char::is_ascii_hexdigit).take(20).collect();
    format!(
        r#"# Written by Berth.
daemon off;
worker_processes 2;
pid /tmp/nginx.pid;
error_log stderr warn;

events {{
    worker_connections 1024;
}}

http {{
    include /layers/static/nginx/mime.types;
    default_type application/octet-stream;
    charset utf-8;
    server_tokens off;
    # The platform's router writes the access log.
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75s;
    client_body_temp_path /tmp/nginx-body;
    proxy_temp_path /tmp/nginx-proxy;
    fastcgi_temp_path /tmp/nginx-fastcgi;
    uwsgi_temp_path /tmp/nginx-uwsgi;
    scgi_temp_path /tmp/nginx-scgi;
    types_hash_max_size 2048;

    gzip on;
    gzip_vary on;
    gzip_static on;
    gzip_min_length 1024;
    gzip_types text/plain text/css text/xml text/javascript application/javascript application/json application/manifest+json application/xml application/rss+xml application/wasm image/svg+xml;

    server {{
        listen 5000 default_server backlog=511;
        server_name _;
        root "{root}";
        index index.html index.htm;
        # Redirects stay on the host and port that the visitor used.
        absolute_redirect off;

        etag off;
        if_modified_since off;
        add_header ETag '"{etag}"';
        add_header Last-Modified "";
        add_header Cache-Control "no-cache";
        # Strong and weak: gzip weakens it on the way out.
        if ($http_if_none_match ~ '"{etag}"') {{
            return 304;
        }}

        location ~ /\.(?!well-known(/|$)) {{
            return 404;
        }}
        location ~ {PRIVATE} {{
            return 404;
        }}
        location / {{
            try_files $uri $uri/ $uri.html {fallback};
        }}
        error_page 404 /404.html;
        location = /404.html {{
            internal;
        }}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(root: &str, spa: bool) -> Site {
        Site { root: root.to_owned(), spa, built: false }
    }

    #[test]
    fn the_switch_decides_what_unknown_paths_get() {
        assert!(
            config(&site("", true), "ab").contains("try_files $uri $uri/ $uri.html /index.html;")
        );
        assert!(config(&site("", false), "ab").contains("try_files $uri $uri/ $uri.html =404;"));
    }

    #[test]
    fn the_root_is_below_the_workspace_and_the_tag_is_hex() {
        let text = config(&site("public", false), "12ab\"; evil");
        assert!(text.contains("root \"/workspace/public\";"));
        assert!(text.contains("'\"12abe\"'"), "{text}");
    }
}
