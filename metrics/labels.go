package metrics

import (
	"iter"
	"slices"
)

// The values that a label may have. All of them are exported from the start, as
// zeros, so that a rate sees the first of each kind; what is not among them is
// counted as other.
var (
	watchOps      = []string{"create", "write", "remove", "rename", "chmod", other}
	rescanReasons = []string{"interval", "name", "limit", "error", "overflow", "start", "root", other}
	storeOps      = []string{"head", "get", "put", "assemble", "copy", "list", "delete", "create_bucket", "bucket_exists", "delete_bucket", other}
	storeErrors   = []string{"precondition", "not_found", "permission", "throttled", "cancelled", other}
	mountOps      = []string{"lookup", "open", "create", "read", "write", "flush", "fsync", "list", "rename", "remove", other}
	dropReasons   = []string{"unsigned", "forged", "unknown_writer", "wrong_storage", "other_bucket", "malformed", "oversized", "stale", "limited", "unavailable", other}
)

const other = "other"

// A label is the name of one, and its values.
type label struct {
	name   string
	values []string
}

func names(labels []label) (names []string) {
	for _, l := range labels {
		names = append(names, l.name)
	}
	return names
}

// combinations returns every value of the first label with every one of the
// others.
func combinations(labels []label) iter.Seq[[]string] {
	return func(yield func([]string) bool) { combine(nil, labels, yield) }
}

func combine(chosen []string, left []label, yield func([]string) bool) bool {
	if len(left) == 0 {
		return yield(chosen)
	}
	for _, v := range left[0].values {
		if !combine(append(chosen, v), left[1:], yield) {
			return false
		}
	}
	return true
}

// among returns v, or other when v is not in set.
func among(set []string, v string) string {
	if slices.Contains(set, v) {
		return v
	}
	return other
}
