# One static program in an image of nothing else: no shell, no libc, no users.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build && mkdir -m 1777 -p /out/data /out/state && cp bin/skyagent /out/ && cp /etc/ssl/certs/ca-certificates.crt /out/

FROM scratch
COPY --from=build /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/skyagent /skyagent
# Whoever it runs as may write below these: volumes begin with their modes.
COPY --from=build /out/data /data
COPY --from=build /out/state /state
ENV PATH=/ SKYAGENT_HOME=/state
# Nobody on any host. A mount needs root, and a watch the right to read others' files.
USER 65532:65532
EXPOSE 9464
HEALTHCHECK --interval=5s --timeout=6s --start-period=1m CMD ["/skyagent", "health"]
ENTRYPOINT ["/skyagent"]
