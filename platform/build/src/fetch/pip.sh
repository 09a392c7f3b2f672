# $1 is a package, $2 its version, $3 where its archive goes.
folder=$(mktemp -d /tmp/fetch.XXXXXX)
mkdir -p "${3%/*}"
python3 -m pip download --quiet --no-cache-dir --no-deps --only-binary :all: --dest "$folder" "$1==$2"
mv "$folder"/*.whl "$3"
rmdir "$folder"
