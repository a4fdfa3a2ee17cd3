package bus

import (
	"context"
	"errors"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

// An event that comes between the reader's word and its look is taken at that
// look, and leaves a word behind that stands for nothing.
func TestMailboxSurvivesAWordWithoutMail(t *testing.T) {
	b := newMailbox()
	b.put(manifest.Event{Source: "main", Epoch: "e", Generation: 1})
	<-b.full
	b.put(manifest.Event{Source: "main", Epoch: "e", Generation: 2})
	if e, ok := b.pop(); !ok || e.Generation != 2 {
		t.Fatalf("pop = %d, %v, want generation 2", e.Generation, ok)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if e, err := b.take(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("take of an empty mailbox = %v, %v", e, err)
	}
}
