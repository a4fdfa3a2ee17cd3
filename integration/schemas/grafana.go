package main

import (
	"errors"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// checkDashboard decodes a dashboard, its panels and queries included.
func checkDashboard(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	plugins.RegisterDefaultPlugins()
	var d dashboard.Dashboard
	return errors.Join(genuine(d.UnmarshalJSONStrict(b)), genuine(d.Validate()))
}

// genuine returns nil for an empty list, which these types take for an error.
func genuine(err error) error {
	var list cog.BuildErrors
	if errors.As(err, &list) && len(list) == 0 {
		return nil
	}
	return err
}
