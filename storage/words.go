package storage

import (
	"maps"
	"slices"
	"strings"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// didYouMean ends a hint with the known word that name was meant to be, if one
// is near: it has the same letters, or one of them more or less.
func didYouMean(name string, known []string) string {
	bare := strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
	for _, word := range known {
		if near(bare, word) {
			return "; did you mean " + word + "?"
		}
	}
	return ""
}

// near says whether a becomes b by one letter put in, left out or replaced, or
// by two neighbours that change places.
func near(a, b string) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}
