package file

import "os"

// WatchSync has seen called with the names of the files of every group before
// it is made durable, until the returned function is called.
func WatchSync(seen func(names []string)) (stop func()) {
	syncing = func(files []*os.File) {
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
		}
		seen(names)
	}
	return func() { syncing = nil }
}
