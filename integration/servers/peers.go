package servers

import "testing"

var (
	rclone = tool{name: "rclone", pkg: "github.com/rclone/rclone", version: "v1.76.0"}
	mc     = tool{name: "mc", pkg: "github.com/minio/mc", version: "v0.0.0-20250313080218-cf909e1063a9"}
)

// Rclone returns the path of rclone, which benchmarks compare with.
func Rclone(t testing.TB) string { return binary(t, rclone) }

// MC returns the path of MinIO's client, which benchmarks compare with.
func MC(t testing.TB) string { return binary(t, mc) }
