#!/bin/sh
# Makes the certificates of the TLS tests again. The keys guard nothing: they exist only for servers on loopback.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

openssl ecparam -name prime256v1 -genkey -noout -out "$work/ca.key"
openssl req -x509 -new -key "$work/ca.key" -subj "/CN=Test authority" -days 36500 -out ca.pem

openssl ecparam -name prime256v1 -genkey -noout -out "$work/server.key"
openssl pkcs8 -topk8 -nocrypt -in "$work/server.key" -outform DER -out server.key.der

issue() { # file, subject alternative name, first and last moment
    openssl req -new -key "$work/server.key" -subj "/CN=Test server" -out "$work/request"
    printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' "$2" >"$work/extensions"
    : >"$work/index"
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s\nnew_certs_dir=%s\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n' \
        "$work/index" "$work" >"$work/config"
    openssl ca -batch -notext -config "$work/config" -cert ca.pem -keyfile "$work/ca.key" -in "$work/request" \
        -extfile "$work/extensions" -startdate "$3" -enddate "$4" -out "$1" 2>/dev/null
}
issue good.pem "DNS:localhost,IP:127.0.0.1" 20200101000000Z 21200101000000Z
issue other-name.pem "DNS:upstream.invalid" 20200101000000Z 21200101000000Z
issue expired.pem "DNS:localhost,IP:127.0.0.1" 20200101000000Z 20200201000000Z
