//! The world of a Wasm app, for tools that make components of languages which are interpreted:
//! `wasi:http` with what it stands on, and the powers that Berth gives to apps.

use berth_buildpack_kit::{Failure, layers};

/// The name of the world.
pub(crate) const NAME: &str = "berth:app/app";

const FILES: [(&str, &str); 10] = [
    ("app.wit", include_str!("../wit/app.wit")),
    ("deps/cli.wit", include_str!("../wit/deps/cli.wit")),
    ("deps/clocks.wit", include_str!("../wit/deps/clocks.wit")),
    ("deps/http.wit", include_str!("../wit/deps/http.wit")),
    ("deps/io.wit", include_str!("../wit/deps/io.wit")),
    ("deps/random.wit", include_str!("../wit/deps/random.wit")),
    ("deps/berth-http-out.wit", include_str!("../../../platform/wit/http-out/http-out.wit")),
    ("deps/berth-kv.wit", include_str!("../../../platform/wit/kv/kv.wit")),
    ("deps/berth-secrets.wit", include_str!("../../../platform/wit/secrets/secrets.wit")),
    ("deps/berth-types.wit", include_str!("../../../platform/wit/types/types.wit")),
];

/// Writes the interfaces into a layer of this build and gives their folder.
pub(crate) fn write() -> Result<String, Failure> {
    let layer = layers::open("wit", &[])?;
    for (path, text) in FILES {
        layer.write(path, text.as_bytes(), false)?;
    }
    Ok(layer.path())
}
