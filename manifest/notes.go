package manifest

import "context"

type NotesPosition struct{}
type Notes struct{}

func (n *Notes) Add(ctx context.Context, w Writes) error { return nil }
func (n *Notes) Since(ctx context.Context, pos NotesPosition) ([]Writes, NotesPosition, error) {
	return nil, pos, nil
}
