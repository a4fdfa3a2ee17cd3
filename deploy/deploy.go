// Package deploy holds what puts skyagent on machines: systemd units, a SkyPilot
// task, a cloud-init snippet. It has no code, only the tests that check these
// files as far as that can be done without the machines.
package deploy
