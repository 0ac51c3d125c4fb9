# syntax=docker/dockerfile:1
# The program smartlog, with TLS and S3, in an image without a shell.
#
#   docker build -t smartlog:local .
#   docker build --build-arg PROGRAM=prebuilt -t smartlog:local .      what `make dist` built, instead of building here
#
#   docker build --target log-processor .                              the function, for a machine without AWS
#
#   manifests ─▶ build (dependencies in a layer of their own) ─┐
#                                                 prebuilt ─────┴─▶ program ─▶ image

ARG RUST=rust:1.95.0-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot
ARG PROGRAM=build
ARG EMULATOR=public.ecr.aws/lambda/provided:al2023

# What decides the dependencies, and nothing else: the layer below is made anew only when one of these files changes.
FROM ${RUST} AS manifests
COPY . /checkout
COPY scripts/manifests-only /usr/local/bin/
RUN manifests-only /checkout /manifests

FROM ${RUST} AS build
# Of the libraries that the program loads, the base has OpenSSL; zlib is linked in.
ENV LIBZ_SYS_STATIC=1 CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_TERM_COLOR=never
WORKDIR /src
COPY --from=manifests /manifests/ ./
RUN cargo build --release --locked -p smartlog --features s3,tls,otlp --bin smartlog
COPY . .
# Cargo tells old from new by time, and the stand-ins of the sources are newer than the sources.
RUN find . -name '*.rs' -exec touch {} + \
    && cargo build --release --locked -p smartlog --features s3,tls,otlp --bin smartlog \
    && scripts/dist lay target/release/smartlog /image

FROM scratch AS prebuilt
ARG TARGETARCH
COPY target/image/${TARGETARCH}/ /image/

# The function of lambda/ behind AWS's emulator of what runs it: for the Compose set's profile `aws`, not for AWS, which takes
# the package of `make lambda`.
FROM build AS function
RUN cargo build --release --locked -p smartlog-lambda

FROM ${EMULATOR} AS emulator

# hadolint ignore=DL3006
FROM ${BASE} AS log-processor
COPY --from=emulator /usr/local/bin/aws-lambda-rie /usr/local/bin/
COPY --from=function /src/target/release/bootstrap /var/runtime/
USER 65532:65532
EXPOSE 8080
CMD ["/usr/local/bin/aws-lambda-rie", "/var/runtime/bootstrap"]

# hadolint ignore=DL3006
FROM ${PROGRAM} AS program

# hadolint ignore=DL3006
FROM ${BASE}
LABEL org.opencontainers.image.title="smartlog" \
      org.opencontainers.image.description="Stream-processing log analyser: logs from Kafka in, anomalies out, every log exactly once" \
      org.opencontainers.image.source="https://github.com/smartlog-rs/smartlog" \
      org.opencontainers.image.documentation="https://github.com/smartlog-rs/smartlog/blob/main/docs/DEPLOY.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.smartlog.sbom="/usr/share/doc/smartlog/sbom.cdx.json"
COPY --from=program /image/usr/ /usr/
# One level up, so that the folder itself comes to belong to the user and not only what lies in it.
COPY --from=program --chown=65532:65532 /image/var/lib/ /var/lib/
ENV SMARTLOG_API_LISTEN=0.0.0.0:8000 SMARTLOG_METRICS_LISTEN=0.0.0.0:9464
USER 65532:65532
WORKDIR /var/lib/smartlog
EXPOSE 8000 9464
# Asks whichever of `smartlog run` and `smartlog api` runs here.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["smartlog", "health"]
# No entry point: hosts differ in whether their "start command" replaces it or follows it. `smartlog api` is right everywhere.
CMD ["smartlog", "run"]
