# Installs a toolchain into the working directory: $1 is rustup, $2 the version. Leaves the hash over
# all files in `integrity`, in the form of Subresource Integrity.
export RUSTUP_HOME="$PWD/rustup" CARGO_HOME="$PWD/cargo"
"$1" --quiet toolchain install "$2" --profile minimal --target wasm32-wasip2 --no-self-update
mv rustup/toolchains/*/bin rustup/toolchains/*/lib .
rm -rf rustup cargo
# What rustup writes for itself, and what serves debuggers.
rm -rf bin/rust-gdb* bin/rust-lldb lib/rustlib/etc lib/rustlib/components lib/rustlib/manifest-* \
    lib/rustlib/multirust-* lib/rustlib/rust-installer-version lib/rustlib/uninstall.sh
sum=$(find bin lib -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | openssl dgst -sha256 -binary | base64)
integrity="sha256-$sum"
