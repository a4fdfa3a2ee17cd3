// Package servers starts the real servers that tests and benchmarks talk to:
// versitygw (S3 over a directory), MinIO, fake-gcs-server (Google Cloud Storage in
// memory), nats-server and Prometheus, at pinned versions; and Proxy, which comes
// between a client and a server and counts or spoils requests.
//
// It promises that a server it returns answers, that nobody else uses its port
// or its directory, and that it is gone when the test is. The binaries are
// built by the Go tool, once for all checkouts and packages, in
// $SKYAGENT_CACHE (or the user's cache directory)/skyagent/servers. A server
// that cannot be had fails the test; only -short skips it. It does not start
// containers and it is not for production.
//
// R2 cannot be run elsewhere than at Cloudflare's. What stands for it is a
// server in the test's process that keeps its rules, and fails the test of a
// client that breaks one.
package servers
