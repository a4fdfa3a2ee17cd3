// Package deploy holds what puts skyagent on machines: systemd units, a SkyPilot
// task, a cloud-init snippet, Kubernetes manifests, and what the compose file's
// servers are given. It has no code, only the tests that check these files as far
// as that can be done without the machines; those that need servers are in
// package integration.
package deploy
