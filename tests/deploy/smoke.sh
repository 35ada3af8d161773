#!/bin/sh
# Starts the program named by WHEELPORT_BINARY as a demo and asks it for a file. Needs curl.
set -eu
work="$(mktemp -d)"
"$WHEELPORT_BINARY" demo --listen 127.0.0.1:0 --dir "$work/demo" > "$work/out" 2>&1 &
demo=$!
trap 'kill $demo 2>/dev/null; wait $demo 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 100); do
    origin="$(grep -o 'http://127\.0\.0\.1:[0-9]*/simple/' "$work/out" | head -n 1)"
    [ -n "$origin" ] && break
    sleep 0.1
done
file="$(curl --fail --silent --show-error --retry 20 --retry-delay 1 --retry-all-errors "${origin}wheelport-hello/" | grep -o '[0-9.]*/wheelport_hello-[^"#]*\.whl' | head -n 1)"
curl --fail --silent --show-error --output "$work/file.whl" "${origin}wheelport-hello/$file"
test -s "$work/file.whl"
echo "served $file"
