// Package servers starts the real servers that tests and benchmarks talk to:
// versitygw (S3 over a directory), fake-gcs-server (Google Cloud Storage in
// memory) and nats-server, at pinned versions.
//
// It promises that a server it returns answers, that nobody else uses its port
// or its directory, and that it is gone when the test is. The binaries are
// built by the Go tool, once for all checkouts and packages, in
// $SKYAGENT_CACHE (or the user's cache directory)/skyagent/servers. A server
// that cannot be had fails the test; only -short skips it. It does not start
// containers and it is not for production.
package servers
