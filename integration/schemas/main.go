// Schemas reads files as the programs that they are for would, by those programs'
// own types: Kubernetes manifests (*.yaml) and Grafana dashboards (*.json). A key
// that is not known, a value of another type or a kind that nobody has is an
// error. It is a module of its own, so that the program's dependencies do not
// grow by theirs.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	for _, file := range os.Args[1:] {
		if err := check(file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

func check(file string) error {
	if filepath.Ext(file) == ".json" {
		return checkDashboard(file)
	}
	return checkManifests(file)
}
