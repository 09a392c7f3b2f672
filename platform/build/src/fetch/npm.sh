# $1 is a package, $2 its version, $3 where its archive goes.
folder=$(mktemp -d /tmp/fetch.XXXXXX)
mkdir -p "${3%/*}"
"$home/bin/node" "$home/lib/node_modules/npm/bin/npm-cli.js" pack "$1@$2" \
    --silent --ignore-scripts --cache "$folder/cache" --pack-destination "$folder" > "$folder/names"
mv "$folder/$(tail -n 1 "$folder/names")" "$3"
rm -rf "$folder"
