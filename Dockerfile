# One static program in an image of nothing else: no shell, no libc, no users.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN make build VERSION="$VERSION"
# Whoever it runs as may write below /data and /state: new volumes take their modes.
RUN mkdir -p /image/etc/ssl/certs && mkdir -m 1777 /image/data /image/state \
 && cp bin/skyagent /image/ && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
COPY --from=build /image /
ENV PATH=/ SKYAGENT_HOME=/state
# Nobody on any host. A mount needs root, and a watch the right to read others' files.
USER 65532:65532
EXPOSE 9464
HEALTHCHECK --interval=5s --timeout=6s --start-period=1m CMD ["/skyagent", "health"]
ENTRYPOINT ["/skyagent"]
