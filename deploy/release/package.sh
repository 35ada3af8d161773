#!/bin/sh
# Packs one built program for a release: program, licences, man pages, completions, the systemd unit, its bill of materials; reproducibly.
#
#   deploy/release/package.sh target/x86_64-unknown-linux-musl/release/wheelport x86_64-unknown-linux-musl dist
#
# The program has to run on this machine, because it writes its own pages. SOURCE_DATE_EPOCH is the time of all files, else the last commit's.
set -eu
program="$1" target="$2" out="$3"
here="$(cd "$(dirname "$0")/../.." && pwd)"
epoch="${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct)}"
version="$("$program" --version | cut -d' ' -f2)"
name="wheelport-$version-$target"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

mkdir -p "$out" "$work/$name/man" "$work/$name/completions"
strip --strip-debug -o "$work/$name/wheelport" "$program"
"$program" generate man --dir "$work/$name/man"
"$program" generate completions --dir "$work/$name/completions"
cp "$here/README.md" "$here/LICENSE-MIT" "$here/LICENSE-APACHE" "$here/deploy/systemd/wheelport.service" "$work/$name/"
SOURCE_DATE_EPOCH="$epoch" "$here/deploy/release/sbom.py" --target "$target" > "$work/$name/sbom.cdx.json"
cp "$work/$name/sbom.cdx.json" "$out/$name.cdx.json"

tar --create --directory "$work" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --mode='u+rw,go+r,go-w' "$name" \
    | gzip -9n > "$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" "$name.cdx.json" > "$name.sha256")
echo "$out/$name.tar.gz"
