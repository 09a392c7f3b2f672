# Builds the crate in the working directory. $1 is an option for cargo or empty, $2 where the
# component goes.
option=$1
made=$2
built=$CARGO_TARGET_DIR/wasm32-wasip2/release
# What dependencies of long ago left behind must not grow for ever.
if [ -d "$CARGO_TARGET_DIR" ] && [ "$(du -sm "$CARGO_TARGET_DIR" | cut -f 1)" -gt 2048 ]; then
    rm -rf "$CARGO_TARGET_DIR"
fi
# Cargo looks at times to see what changed, and all files of a commit have the same one.
find . -type f -exec touch {} +
rm -f "$built"/*.wasm
cargo build --release --target wasm32-wasip2 ${option:+"$option"}
set -- "$built"/*.wasm
if [ $# -gt 1 ]; then
    echo "error: the build made $# components, and an app is one: $(basename -a "$@" | paste -s -d ' ')"
    exit 65
fi
if [ ! -e "$1" ]; then
    echo 'error: the build made no component. Cargo.toml needs [lib] with crate-type = ["cdylib"]'
    exit 65
fi
if ! grep -qa 'wasi:http/incoming-handler@0\.2' "$1"; then
    echo "error: $(basename "$1") answers no requests: it does not export wasi:http/incoming-handler. With the crate wstd, an async function under #[wstd::http_server] is exported as that"
    exit 65
fi
cp --remove-destination "$1" "$made"
