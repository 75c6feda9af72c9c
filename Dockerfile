# An image that only carries the plugin and vethctl, for another image's COPY --from or to copy out of:
#   docker build -t veth . && id=$(docker create veth) && docker cp "$id:/opt/cni/bin/veth" /opt/cni/bin/; docker rm "$id"
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build

FROM scratch
COPY --from=build /src/LICENSE /LICENSE
COPY --from=build /src/bin/veth /opt/cni/bin/veth
COPY --from=build /src/bin/vethctl /usr/local/bin/vethctl
ENTRYPOINT ["/opt/cni/bin/veth"]
