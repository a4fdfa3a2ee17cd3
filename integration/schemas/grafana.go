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
	if err := d.UnmarshalJSONStrict(b); err != nil {
		return err
	}
	var wrong cog.BuildErrors
	if err := d.Validate(); errors.As(err, &wrong) && len(wrong) > 0 {
		return wrong
	}
	return nil
}
