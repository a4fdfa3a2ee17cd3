package storage

import "fmt"

// A Bucket is what is known of a mount's bucket before it is used.
type Bucket struct {
	Exists bool
	Denied bool  // the store does not let us look
	Made   Store // where we made it, "" when we did not
}

// A Use is what becomes of a mount's bucket.
type Use string

const (
	Make   Use = "make"   // it is not there, and ours to make
	Ours   Use = "ours"   // we made it: it is listed, and can be deleted
	Theirs Use = "theirs" // it is never listed and never deleted
)

// Judge says how the mount may use its bucket. The error is a Problem, with
// the mount's place.
func (m *Mount) Judge(b Bucket) (Use, error) {
	switch {
	case b.Denied:
		return "", m.problem("check the credentials; if the name is somebody else's, choose another one",
			"failed to access existing bucket %q: it is likely a private bucket that you do not have access to", m.Name)
	case m.External && !b.Exists:
		return "", m.problem("check the URI; for a new bucket write name: instead", "attempted to use a non-existent bucket as a source: %s", m.Location.URL())
	case m.External:
		return Theirs, nil
	case b.Made != "" && b.Made != m.Store:
		return "", m.problem("write store: "+string(b.Made)+", or choose another name",
			"bucket %s was previously created for %q, but a new store type %q is requested", m.Name, b.Made, m.Store)
	case !b.Exists:
		return Make, nil
	case b.Made != "":
		return Ours, nil
	case m.Sources == nil:
		return "", m.problem(fmt.Sprintf("for a new bucket choose another name; for this one write source: %s://%s instead of name: %s", m.Store.Scheme(), m.Name, m.Name),
			"attempted to mount a non-sky managed bucket %q without specifying the storage source", m.Name)
	}
	return Theirs, nil
}

func (m *Mount) problem(hint, format string, args ...any) Problem {
	return Problem{File: m.File, Line: m.Line, Column: m.Column, Message: fmt.Sprintf(format, args...), Hint: hint}
}
