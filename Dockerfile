# The one image of all roles. buildx makes linux/amd64 and linux/arm64 of it.

FROM rust:1.95-bookworm AS rust-amd64
FROM rust:1.95-bookworm AS rust-arm64
# Of the page sizes that kernels may have there, 4 to 64 KiB, the allocator has to be built for the largest.
ENV JEMALLOC_SYS_WITH_LG_PAGE=16


FROM rust:1.95-bookworm AS manifests
WORKDIR /build
COPY . .
# Real manifests, empty crates: what the next stage sees changes with the dependencies alone.
RUN find services -name '*.rs' -delete \
 && for manifest in $(find services bench -name Cargo.toml); do \
        mkdir -p "${manifest%/*}/src" && : > "${manifest%/*}/src/lib.rs"; \
    done \
 && install -D /dev/null bench/limits/benches/hot.rs \
 && rm services/fulltape/src/lib.rs && echo 'fn main() {}' > services/fulltape/src/main.rs


FROM rust-${TARGETARCH} AS dependencies
WORKDIR /build
COPY --from=manifests /build .
RUN cargo build --profile dist --locked --package fulltape


FROM dependencies AS build
COPY . .
# Cargo compares times, and those of a checkout may be older than the empty crates.
RUN find services -name '*.rs' -exec touch {} + \
 && cargo build --profile dist --locked --package fulltape \
 && strip --strip-debug -o /fulltape target/dist/fulltape


FROM debian:bookworm-slim
# A named volume takes its owner from the folder it is first mounted on.
RUN install -d -o 10001 -g 10001 /var/lib/fulltape
COPY --from=build /fulltape /usr/local/bin/fulltape
COPY cassandra/*.cql /usr/share/fulltape/cassandra/
USER 10001:10001
WORKDIR /var/lib/fulltape
ENV FULLTAPE__DATA=/var/lib/fulltape \
    FULLTAPE__ADMIN__LISTEN=0.0.0.0:9100
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["fulltape", "health"]
ENTRYPOINT ["fulltape"]
CMD ["--help"]
