package hosts

import (
	"context"

	"github.com/skyagent/skyagent/ignore"
)

// Failure is what a transfer reports that ended with err and these words.
func Failure(err error, said string) error {
	return failure(context.Background(), "vm", "~/x", err, said)
}

// Look looks at names in turn in a tree that was scanned before, and returns what
// changed, what is gone, and how many files there are.
func Look(root string, rules *ignore.Rules, change func(), names ...string) (changed, gone []string, files int) {
	t, err := scan(root, rules, nil)
	if err != nil {
		panic(err)
	}
	change()
	var d delta
	judge := t.judge()
	for _, name := range names {
		t.look(name, judge, &d)
	}
	for _, p := range d.gone {
		gone = append(gone, p.name)
	}
	return d.changed, gone, t.files
}
