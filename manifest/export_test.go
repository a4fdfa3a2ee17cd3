package manifest

// Frame appends a whole frame of an index's journal to b.
func Frame(b, payload []byte) []byte {
	w := frameWriter{b}
	writeFrame(&w, payload)
	return w.b
}

type frameWriter struct{ b []byte }

func (w *frameWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// Boot stands for another run of the kernel until the returned function is called.
func Boot(id string) (restore func()) {
	old := bootID
	bootID = func() string { return id }
	return func() { bootID = old }
}

// CompactFloor is how many dead records a small index may have.
const CompactFloor = compactFloor

// Break makes every write of the index fail until the returned function is called.
func Break(x *Index) (restore func()) {
	good := x.file
	x.file = nil
	return func() { x.file = good }
}
