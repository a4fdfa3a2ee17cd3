// Package metrics holds every metric that skyagent exports and serves them,
// with health and readiness, over HTTP.
//
// It promises that every name begins with skyagent_ and carries its unit, that
// labels come from fixed sets (an operation, a reason, a state) and never hold
// a path, and that a Set works with a registry of its own, so that tests and
// several agents in one process do not meet. It knows nothing of the packages
// that it measures: they report through callbacks that cmd wires to a Set.
package metrics
