# syntax=docker/dockerfile:1
# Wheelport's container image: one program, the C library it is linked to, certificate authorities; no shell, no package manager.
#
#   docker build -t wheelport .
#   docker run --rm -p 8080:8080 wheelport demo
#
# It builds for the platform it runs on; images for several platforms are built on a machine of each and joined
# (see docs/RELEASING.md).

ARG RUST_VERSION=1.95
ARG DEBIAN_RELEASE=bookworm
# The digest is what counts, and the tag says what it was; both change together
# (docker buildx imagetools inspect rust:1.95-slim-bookworm).
ARG RUST_DIGEST=@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082

FROM rust:${RUST_VERSION}-slim-${DEBIAN_RELEASE}${RUST_DIGEST} AS build
WORKDIR /build

# Dependencies are a layer of their own, which is rebuilt only when a manifest or the lock file changes. The workspace's
# own crates are empty in it, and what cargo made of them is removed: cargo would otherwise take the real sources, whose
# times may be older, for what it has just built. The benchmark stays empty: cargo expects it because the manifest names it.
COPY Cargo.toml Cargo.lock ./
COPY crates/emulator/Cargo.toml ./crates/emulator/
COPY crates/index/Cargo.toml ./crates/index/
COPY crates/runtime/Cargo.toml ./crates/runtime/
RUN mkdir src benches crates/emulator/src crates/index/src crates/runtime/src \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs benches/hot.rs crates/emulator/src/lib.rs crates/index/src/lib.rs crates/runtime/src/lib.rs \
 && cargo build --release --locked --bin wheelport \
 && rm -rf src crates/*/src target/release/.fingerprint/wheelport-* target/release/wheelport* target/release/libwheelport* \
      target/release/deps/wheelport* target/release/deps/libwheelport*

COPY crates ./crates
COPY src ./src
# policies that `wheelport iam-policy` prints
COPY deploy/iam ./deploy/iam
RUN cargo build --release --locked --bin wheelport

# The root file system of the final image, put together where there is a shell.
RUN set -eu; \
    mkdir -p /root-fs/usr/local/bin /root-fs/etc/ssl/certs /root-fs/home/wheelport /root-fs/var/cache/wheelport \
             /root-fs/var/lib/wheelport /root-fs/tmp; \
    # names of functions stay for backtraces; what a debugger wants is five times the program
    strip --strip-debug -o /root-fs/usr/local/bin/wheelport target/release/wheelport; \
    # the loader and the shared libraries, where the loader looks for them
    ldd target/release/wheelport | grep -o '/[^ ]*' | sort -u | while read -r library; do \
        cp -L --parents "$library" /root-fs/; \
    done; \
    cp -L /etc/ssl/certs/ca-certificates.crt /root-fs/etc/ssl/certs/; \
    echo 'hosts: files dns' > /root-fs/etc/nsswitch.conf; \
    echo 'wheelport:x:65532:65532:wheelport:/home/wheelport:/nonexistent' > /root-fs/etc/passwd; \
    echo 'wheelport:x:65532:' > /root-fs/etc/group; \
    chmod 1777 /root-fs/tmp; \
    # group 0, so that any other user can be chosen, too: --user "$(id -u):0"
    chown 65532:0 /root-fs/home/wheelport /root-fs/var/cache/wheelport /root-fs/var/lib/wheelport; \
    chmod 0770 /root-fs/home/wheelport /root-fs/var/cache/wheelport /root-fs/var/lib/wheelport

FROM scratch

ARG VERSION=0.0.0-dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Wheelport" \
      org.opencontainers.image.description="A Python package index without credentials in front of AWS CodeArtifact" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

COPY --from=build /root-fs/ /

# A container serves clients outside of it; the ports that are published decide which. Metrics stay off until
# WHEELPORT_OPS_LISTEN is set.
ENV HOME=/home/wheelport \
    WHEELPORT_LISTEN=0.0.0.0:8080 \
    WHEELPORT_CACHE_DIR=/var/cache/wheelport \
    WHEELPORT_LOG_FORMAT=json

# Numbers, so that Kubernetes' runAsNonRoot can check them.
USER 65532:65532
EXPOSE 8080 9090
VOLUME ["/var/cache/wheelport"]
# Liveness and not readiness: an engine that restarts unhealthy containers must not do so because AWS is down.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/usr/local/bin/wheelport", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/wheelport"]
CMD ["serve"]
