package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Labels returns the tags that SkyPilot's own configuration asks for on every
// new bucket of a store: aws.labels, for S3. The configuration is what
// SKYPILOT_GLOBAL_CONFIG names, or ~/.sky/config.yaml; without one there are none.
func Labels(store Store, env func(string) (string, bool), home string) (map[string]string, error) {
	if store != S3 {
		return nil, nil
	}
	named, _ := env("SKYPILOT_GLOBAL_CONFIG")
	path := filepath.Join(home, ".sky", "config.yaml")
	if rest, ok := strings.CutPrefix(named, "~/"); ok {
		path = filepath.Join(home, filepath.FromSlash(rest))
	} else if named != "" {
		path = named
	}
	content, err := os.ReadFile(path)
	if named == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var config struct {
		AWS struct {
			Labels map[string]string `yaml:"labels"`
		} `yaml:"aws"`
	}
	if err := yaml.Unmarshal(content, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return config.AWS.Labels, nil
}
