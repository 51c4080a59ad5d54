# Images of `logos serve` (the last stage) and of Envoy with its bootstrap (target envoy).
#
# With BINARY=prebuilt the binary is the one that `CGO_ENABLED=0 make build` left in bin/, so that nothing
# is pulled:  buildah bud --build-arg BINARY=prebuilt --target logos .
ARG BINARY=built

FROM docker.io/library/golang:1.26.8-bookworm AS built
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN mkdir -p /out/run && CGO_ENABLED=0 go build -trimpath -o /out/logos ./cmd/logos

FROM scratch AS prebuilt
WORKDIR /out/run
COPY bin/logos /out/logos

FROM ${BINARY} AS binary

FROM docker.io/envoyproxy/envoy:v1.40.0 AS envoy
COPY --chown=10001:10001 --from=binary /out/run /run/logos
COPY envoy/bootstrap.yaml /etc/logos/bootstrap.yaml
USER 10001:10001
WORKDIR /run/logos
# Every Envoy process has an epoch of its own: it names its access log.
ENTRYPOINT ["/bin/sh", "-c", "exec envoy --config-path /etc/logos/bootstrap.yaml --config-yaml '{admin: {address: {socket_address: {address: 0.0.0.0, port_value: 9901}}}}' --service-node \"$(cat /proc/sys/kernel/random/uuid)\" --service-cluster logos --disable-hot-restart --file-flush-interval-msec 20 --log-level warning --component-log-level misc:error"]

FROM scratch AS logos
COPY --from=binary /out/logos /logos
COPY --chown=10001:10001 --from=binary /out/run /run/logos
USER 10001:10001
ENTRYPOINT ["/logos"]
CMD ["serve"]
