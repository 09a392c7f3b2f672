# Makes a folder of packages for componentize-js of the archives that are given as NAME=FILE. Two
# packages that it asks for bring a hundred others which it never calls; small ones stand in.
mkdir -p node_modules
for one in "$@"; do
    into=node_modules/${one%%=*}
    mkdir -p "$into"
    tar -xzf "${one#*=}" -C "$into" --strip-components=1 --no-same-owner
done
# Of this one, only what WASI's first version is translated with.
mv node_modules/@bytecodealliance/jco/lib/wasi_snapshot_preview1.reactor.wasm reactor.wasm
rm -rf node_modules/@bytecodealliance/jco
stand_in() {
    mkdir -p "node_modules/@bytecodealliance/$1"
    echo '{ "type": "module", "exports": "./index.js" }' > "node_modules/@bytecodealliance/$1/package.json"
    cat > "node_modules/@bytecodealliance/$1/index.js"
}
stand_in jco <<JS
export { componentNew, metadataAdd } from "@bytecodealliance/jco-transpile/wasm-tools";
export const preview1AdapterReactorPath = () => "$PWD/reactor.wasm";
JS
stand_in wizer <<JS
export default "$PWD/node_modules/@bytecodealliance/wizer-linux-x64/wizer";
JS
stand_in weval <<JS
export default () => { throw new Error("weval is not used"); };
JS
chmod 0755 node_modules/@bytecodealliance/wizer-linux-x64/wizer
rm -f node_modules/@bytecodealliance/componentize-js/lib/*debug* \
    node_modules/@bytecodealliance/componentize-js/lib/*weval*
