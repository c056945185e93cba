# goproxy in a container: docs/install.md says how it is run.
#
# Each stage is a step of dist/image, which does the same where there is no docker.

FROM rust:1.95-bookworm AS build
WORKDIR /goproxy
COPY . .
RUN cargo build --locked --profile dist --bin goproxy && dist/image files target/dist/goproxy /image

# Debian's smallest image with glibc; the program needs nothing else.
FROM debian:bookworm-slim
COPY --from=build /image/ /
# By number, so that a cluster sees that it is not root.
USER 65532:65532
EXPOSE 8081
# The folder, not the file: a changed file is renamed over the old one.
VOLUME ["/etc/goproxy"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/bin/goproxy", "status", "--ready", "--config", "/etc/goproxy"]
ENTRYPOINT ["/usr/bin/goproxy"]
CMD ["run", "--config", "/etc/goproxy"]
