package storage

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// presets are SkyPilot's file mount types; those that end with _RO are
// read-only.
var presets = []string{"MODEL_CHECKPOINT_RO", "MODEL_CHECKPOINT_RW", "DATASET_RO", "DATASET_RW"}

// A knob is one setting below config, by the check that it must pass. What has
// no effect here is accepted and said.
type knob struct {
	check func(r *reader, n *yaml.Node, what string) bool
	here  bool // it has an effect
}

var (
	memory   = regexp.MustCompile(`^[0-9]+(b|k|m|g|t|p|B|K|M|G|T|P)?$`)
	duration = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w|M|y)?)+$`)
)

var mountKnobs = map[string]knob{"read_only": {isBool, true}}

var cachedKnobs = map[string]knob{
	"transfers":              {atLeast(1), true},
	"read_only":              {isBool, true},
	"buffer_size":            {matches(memory, "write a size as 64M or 10G"), false},
	"vfs_cache_max_size":     {matches(memory, "write a size as 64M or 10G"), false},
	"vfs_read_ahead":         {matches(memory, "write a size as 64M or 10G"), false},
	"vfs_read_chunk_size":    {matches(memory, "write a size as 64M or 10G"), false},
	"vfs_read_chunk_streams": {atLeast(0), false},
	"vfs_cache_max_age":      {matches(duration, "write a time as 1h30m or 100ms"), false},
	"vfs_write_back":         {matches(duration, "write a time as 1h30m or 100ms"), false},
}

// volumeKeys are of volumes alone: SkyPilot takes them anywhere.
var volumeKeys = []string{"disk_size", "disk_tier", "storage_type", "attach_mode"}

// config reads a storage's config.
func (r *reader) config(m *Mount, s *spec, n *yaml.Node) {
	if kindOf(n) != kindMapping {
		r.problem(n, "write mount: or mount_cached: below it", "config is %s, not a mapping", kindOf(n))
		return
	}
	for _, f := range r.fieldsOf(n) {
		switch {
		case f.name == "mount":
			s.mount = f.key
			r.knobs(m, f, mountKnobs)
		case f.name == "mount_cached":
			s.cached = f.key
			r.knobs(m, f, cachedKnobs)
		case slices.Contains(volumeKeys, f.name):
			r.warn(f.key, "", "config.%s is for volumes, and has no effect here", f.name)
		default:
			r.problem(f.key, "config has mount and mount_cached", "invalid storage args: \"config.%s\"", f.name)
		}
	}
}

func (r *reader) knobs(m *Mount, section field, knobs map[string]knob) {
	if k := kindOf(section.value); k != kindMapping {
		if k != kindNull {
			r.problem(section.value, "write NAME: value, a line each, below it", "config.%s is %s, not a mapping", section.name, k)
		}
		return
	}
	for _, f := range r.fieldsOf(section.value) {
		what := "config." + section.name + "." + f.name
		k, ok := knobs[f.name]
		if !ok {
			r.problem(f.key, section.name+" has "+strings.Join(sortedKeys(knobs), ", "), "invalid storage args: %q", what)
			continue
		}
		if kindOf(f.value) == kindNull || !k.check(r, f.value, what) {
			continue
		}
		switch f.name {
		case "read_only":
			m.ReadOnly = truth(f.value.Value)
		case "transfers":
			m.Transfers, _ = strconv.Atoi(pythonInt(f.value.Value))
		}
		if !k.here {
			r.warn(f.key, "", "%s is a setting of rclone's, and has no effect here", what)
		}
	}
}

// modeConfig judges what goes with one mode only.
func (r *reader) modeConfig(m *Mount, s *spec) {
	if s.preset != nil {
		r.onlyWith(m, s, s.preset, "type", MountCached)
	}
	if s.cached != nil {
		r.onlyWith(m, s, s.cached, "config.mount_cached", MountCached)
	}
	if s.mount != nil {
		r.onlyWith(m, s, s.mount, "config.mount", Live)
	}
}

func (r *reader) onlyWith(m *Mount, s *spec, at *yaml.Node, what string, mode Mode) {
	if m.Mode != mode && !s.bad {
		r.problem(at, "write mode: "+string(mode)+", or leave out "+what, "%s is only for mode %s, and the mode is %s", what, mode, m.Mode)
	}
}

func isBool(r *reader, n *yaml.Node, what string) bool {
	before := len(r.problems)
	r.boolean(new(bool), n, what)
	return len(r.problems) == before
}

// atLeast checks an integer. 78.0 is none.
func atLeast(low int) func(*reader, *yaml.Node, string) bool {
	return func(r *reader, n *yaml.Node, what string) bool {
		if kindOf(n) == kindInt {
			if v, err := strconv.Atoi(pythonInt(n.Value)); err == nil && v >= low {
				return true
			}
		}
		r.problem(n, "write a whole number from "+strconv.Itoa(low), "%s is %q, not an integer of at least %d", what, n.Value, low)
		return false
	}
}

// matches checks a string, or a number that stands for itself.
func matches(re *regexp.Regexp, hint string) func(*reader, *yaml.Node, string) bool {
	return func(r *reader, n *yaml.Node, what string) bool {
		if n.Kind == yaml.ScalarNode {
			if text, ok := r.fill(n, n.Value); !ok || re.MatchString(text) {
				return ok
			}
		}
		r.problem(n, hint, "%s is %q, which it cannot be", what, n.Value)
		return false
	}
}
