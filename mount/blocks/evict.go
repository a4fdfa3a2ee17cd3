package blocks

import (
	"cmp"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A resident is a content on disk, in as few bytes as it can be: there may be
// millions.
type resident struct {
	name [short]byte
	pack bool  // it is a pack of many contents
	used int64 // ns since 1970
	size int64 // bytes on disk, of both its files
}

// measure finds out what the directory holds from before.
func (s *space) measure() {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	s.reduce()
}

// evict makes room for what is counted in s.used already.
func (s *space) evict() {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	if s.used.Load()+s.tally.others(0) > s.max { // nobody did, meanwhile
		s.reduce()
	}
}

// shrink makes room on a disk that is full before the cache is. It reports
// whether it could.
func (s *space) shrink() bool {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	residents, size := s.survey()
	return s.remove(residents, size/10) > 0
}

// reduce counts what is on disk, and deletes what was not used for longest
// when it is too much, until what is left and coming is nine tenths of what may
// be.
func (s *space) reduce() {
	residents, size := s.survey()
	s.cache.shutDeleted(residents)
	s.tally.forget()
	size += s.coming.Load() // some of it was counted: too much rather than too little
	s.used.Store(size)
	if size > s.max {
		s.remove(residents, size-s.max/10*9)
	}
}

// remove deletes contents, those that were not used for longest first, until
// excess bytes are gone. It returns how many are.
func (s *space) remove(residents []resident, excess int64) (gone int64) {
	slices.SortFunc(residents, func(a, b resident) int { return cmp.Compare(a.used, b.used) })
	for _, r := range residents {
		if gone >= excess {
			break
		}
		if s.discard(r) {
			gone += r.size
			s.cache.stats.evicted.Add(1)
			s.cache.stats.evictedBytes.Add(r.size)
			s.used.Add(-r.size)
		}
	}
	return gone
}

// discard deletes a content's files, or a pack's. The checksums go first: a
// file of checksums that is left alone claims what is not there.
func (s *space) discard(r resident) bool {
	name := hex.EncodeToString(r.name[:])
	path := filepath.Join(s.dir, name[:2], name)
	if r.pack {
		path = filepath.Join(s.dir, packsName, name)
	}
	if remove(path+sumsSuffix) != nil || remove(path) != nil {
		return false
	}
	if r.pack {
		s.cache.packs.discarded(path)
	} else {
		s.cache.forget(r.name)
	}
	return true
}

// forget closes the files of a content that was deleted: its room is free only
// then.
func (c *Cache) forget(name [short]byte) {
	for _, content := range c.descriptors.all() {
		if [short]byte(content.id[:short]) == name {
			content.shut()
		}
	}
}

// shutDeleted closes the files that another process has deleted.
func (c *Cache) shutDeleted(residents []resident) {
	open := map[[short]byte]*content{}
	for _, content := range c.descriptors.all() {
		open[[short]byte(content.id[:short])] = content
	}
	for _, r := range residents {
		delete(open, r.name)
	}
	for _, content := range open {
		content.shut()
	}
}

// survey returns what is on disk, and how many bytes it takes.
func (s *space) survey() (residents []resident, size int64) {
	open := map[[short]byte]int64{}
	for _, content := range s.cache.descriptors.all() {
		if used := content.used(); !used.IsZero() {
			open[[short]byte(content.id[:short])] = used.UnixNano()
		}
	}
	for shard := range shards {
		dir := filepath.Join(s.dir, hex.EncodeToString([]byte{byte(shard)}))
		residents = s.surveyDir(residents, dir, open)
	}
	contents := len(residents)
	residents = s.surveyDir(residents, filepath.Join(s.dir, packsName), nil)
	for i := range residents[contents:] {
		residents[contents+i].pack = true
	}
	for _, r := range residents {
		size += r.size
	}
	return residents, size
}

// surveyDir appends what is in one directory. A content and its checksums
// stand one behind the other in the order of names. What is deleted meanwhile is
// left out.
func (s *space) surveyDir(residents []resident, dir string, open map[[short]byte]int64) []resident {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.cache.log.Warn("cache cannot look at its disk", "dir", dir, "err", err)
	}
	for _, e := range entries {
		var r resident
		name := strings.TrimSuffix(e.Name(), sumsSuffix)
		info, err := e.Info()
		if n, bad := hex.Decode(r.name[:], []byte(name[:min(len(name), 2*short)])); bad != nil || n != short || err != nil {
			continue
		}
		r.used, r.size = max(info.ModTime().UnixNano(), open[r.name]), allocated(info)
		if last := len(residents) - 1; last >= 0 && residents[last].name == r.name {
			residents[last].size += r.size
			residents[last].used = max(residents[last].used, r.used)
			continue
		}
		residents = append(residents, r)
	}
	return residents
}
