# One command each: build, test, lint, race, bench, cross. They need Go and git.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Google's client is used over HTTP: without its gRPC half the program is a
# third smaller. Everything is built alike, so that packages compile once.
GOTAGS := disable_grpc_modules
# A first run builds the pinned test servers, which takes minutes.
TIMEOUT := 40m

.PHONY: linuxtree delta hosts peers build test race lint cross bench docs minio fsx compose

build:
	CGO_ENABLED=0 go build -tags $(GOTAGS) -trimpath -ldflags '$(LDFLAGS)' -o bin/skyagent ./cmd/skyagent

test:
	go test -tags $(GOTAGS) -timeout $(TIMEOUT) ./...

race:
	go test -tags $(GOTAGS) -race -short -timeout $(TIMEOUT) ./...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'error: run gofmt -w on these'; exit 1; }
	go vet -tags $(GOTAGS) ./...
	go tool staticcheck -tags $(GOTAGS) ./...
	go mod verify
	go mod tidy -diff
	go -C integration/schemas vet ./...
	go -C integration/schemas mod tidy -diff

# The tests of the S3 store against MinIO, whose first build takes a quarter of
# an hour.
minio:
	go vet -tags $(GOTAGS),minio ./objstore/s3
	go test -timeout $(TIMEOUT) -tags $(GOTAGS),minio -run MinIO ./objstore/s3

# What people do first: docker-compose.yml, brought up and used, and the first
# command of the README. It needs Linux, root, and Docker with
# compose, and says so where it has not; it starts the engine when none runs.
compose:
	go vet -tags $(GOTAGS),compose ./integration
	go test -tags $(GOTAGS),compose -timeout $(TIMEOUT) -count 1 -run 'TestCompose$$|TestNewcomer' -v ./integration

cross:
	GOOS=darwin GOARCH=arm64 go vet -tags $(GOTAGS) ./...
	GOOS=windows GOARCH=amd64 go vet -tags $(GOTAGS) ./...
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 go build -tags $(GOTAGS) -o /dev/null ./cmd/skyagent
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go build -tags $(GOTAGS) -o /dev/null ./cmd/skyagent
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -tags $(GOTAGS) -o /dev/null ./cmd/skyagent

bench:
	go test -tags $(GOTAGS) -timeout $(TIMEOUT) -run '^$$' -bench . -benchtime 1x -v ./bench
	go test -tags $(GOTAGS) -run '^$$' -bench . -benchmem ./manifest ./watcher ./bus ./objstore/...

# What a change of a file of 2 GiB sends, to every kind of store.
delta:
	SKYAGENT_DELTA_SIZE=2048 go test -tags $(GOTAGS) -timeout $(TIMEOUT) -count 1 -run 'TestDelta$$' -v ./integration

# 78,000 files to a host by rsync, and then one that changed.
hosts:
	SKYAGENT_LONG=1 go test -tags $(GOTAGS) -timeout $(TIMEOUT) -count 1 -run 'TestManyFiles$$' -v ./hosts

# Mounts for longer: 10 million random operations against a model, and many
# processes that write and read the same files. It takes an hour, and needs Linux,
# /dev/fuse and root.
fsx:
	SKYAGENT_LONG=1 go test -tags $(GOTAGS) -timeout 4h -count 1 -run 'TestMountFSX|TestMountRegisters' -v ./integration
	SKYAGENT_LONG=1 go test -tags $(GOTAGS) -timeout 4h -count 1 -run 'TestModel$$' -v ./mount

# Against rclone, mc and aws, which it builds or finds; needs Debian for the
# kernel's sources and awscli, and some 15 GB of disk.
peers:
	SKYAGENT_LINUX_SOURCE=$$(integration/linux-source) go test -tags $(GOTAGS) -timeout $(TIMEOUT) -run '^$$' -bench 'SmallFiles|LargeFile' -benchtime 1x -v ./bench

# The pages that the code writes: the command line, the metrics, and the rules as
# Kubernetes wants them.
docs:
	go test -tags $(GOTAGS) ./cmd/skyagent ./metrics ./integration -run 'Documented' -update

# The Linux kernel's 78,000 files; needs Debian, and room for five copies.
linuxtree:
	SKYAGENT_LINUX_SOURCE=$$(integration/linux-source) go test -tags $(GOTAGS),linuxtree -timeout $(TIMEOUT) -run TestLinuxTree -v ./integration
