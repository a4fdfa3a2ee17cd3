//go:build linux

package posix

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// runTar unpacks a tree on the file system and packs it there.
func runTar(s *stage) {
	makeTree(s, s.off("tree"))
	s.run(s.scratch, "tar", "-cf", "tree.tar", "tree")
	s.run(s.dir, "tar", "-xf", s.off("tree.tar"))
	sameTree(s, s.off("tree"), s.path("tree"))
	s.run(s.dir, "tar", "-czf", "packed.tar.gz", "tree")
	if err := os.Mkdir(s.off("back"), 0o755); err != nil {
		s.Fatal(err)
	}
	s.run(s.off("back"), "tar", "-xzf", s.path("packed.tar.gz"))
	sameTree(s, s.off("tree"), s.off("back/tree"))
	s.run(s.dir, "tar", "--compare", "-f", s.off("tree.tar"))
}

// runRsync copies a tree onto the file system and back, and again with changes.
func runRsync(s *stage) {
	makeTree(s, s.off("tree"))
	there, back := s.path("tree"), s.off("back")
	copied := func(from, to string, args ...string) {
		s.Helper()
		s.run(s.scratch, "rsync", append([]string{"-a", "--delete", from + "/", to + "/"}, args...)...)
		s.wantOutput("", s.scratch, "rsync", "-an", "--checksum", "--delete", "--itemize-changes", "--omit-dir-times", from+"/", to+"/")
		sameTree(s, from, to)
	}
	copied(s.off("tree"), there)
	copied(there, back)
	s.write(s.off("tree/dir-0/sub 0/file-0.txt"), noise(150_000))
	s.write(s.off("tree/dir-3/new"), "new")
	s.remove(s.off("tree/dir-1/sub 1/file-1.txt"))
	copied(s.off("tree"), there, "--no-whole-file")
	s.write(s.off("tree/dir-0/sub 0/file-0.txt"), noise(160_000))
	copied(s.off("tree"), there, "--inplace", "--no-whole-file")
	copied(there, back, "--checksum")
}

// runCoreutils copies, moves, finds, measures and removes trees.
func runCoreutils(s *stage) {
	makeTree(s, s.off("tree"))
	s.run(s.dir, "cp", "-a", s.off("tree"), "one")
	sameTree(s, s.off("tree"), s.path("one"))
	s.run(s.dir, "cp", "-a", "one", "two")
	sameTree(s, s.off("tree"), s.path("two"))
	s.run(s.dir, "mv", "two", "three")
	sameTree(s, s.off("tree"), s.path("three"))
	s.run(s.dir, "mv", "three", s.off("moved"))
	sameTree(s, s.off("tree"), s.off("moved"))
	s.run(s.dir, "mv", s.off("moved"), "one/below")
	sameTree(s, s.off("tree"), s.path("one/below"))
	s.wantOutput("", s.dir, "diff", "-r", s.off("tree"), "one/below")

	files := strings.Fields(s.run(s.dir, "find", "one/below", "-type", "f", "-printf", "%s\n"))
	if len(files) != treeFiles {
		s.Errorf("find finds %d files, want %d", len(files), treeFiles)
	}
	s.wantOutput("", s.dir, "find", "one", "-type", "f", "-newermt", "2020-01-01")
	sum := 0
	for _, size := range files {
		n, err := strconv.Atoi(size)
		if err != nil {
			s.Fatal(err)
		}
		sum += n
	}
	sizes := strings.Fields(s.run(s.dir, "du", "-s", "--apparent-size", "--block-size=1", "one/below"))
	if n, err := strconv.Atoi(sizes[0]); err != nil || n < sum || n > sum+1<<20 {
		s.Errorf("du says %s, the files have %d bytes", sizes[0], sum)
	}
	s.run(s.dir, "rm", "-r", "one")
	s.wantOutput("", s.dir, "ls", "-A")
}

// runFio writes and verifies by each way to do it.
func runFio(s *stage) {
	for _, engine := range []string{"psync", "mmap", "libaio", "pvsync2"} {
		for _, tc := range []struct{ rw, bs string }{{"write", "128k"}, {"randwrite", "4k"}, {"randrw", "5k"}} {
			s.sub(engine+" "+tc.rw, func(s *stage) {
				s.run(s.scratch, "fio", "--name=verify", "--directory="+s.dir, "--filename=fio-"+engine, "--size=8m", "--rw="+tc.rw, "--bs="+tc.bs,
					"--ioengine="+engine, "--iodepth=4", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--end_fsync=1", "--fallocate=none",
					"--randseed=7", "--aux-path="+s.scratch)
			})
		}
	}
}

// runSQLite has two processes write to one database in each of its journal
// modes.
func runSQLite(s *stage) {
	for _, mode := range []string{"DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF", "WAL"} {
		s.sub(mode, func(s *stage) { s.database(filepath.Join(s.dir, mode+".db"), mode) })
	}
}

const (
	transactions = 40
	writers      = 2
)

func (s *stage) database(db, mode string) {
	s.wantOutput(strings.ToLower(mode), s.scratch, "sqlite3", db,
		"pragma journal_mode="+mode+"; create table t(writer, n, filler); create index i on t(n); create table sum(n); insert into sum values(0);")
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			if out, err := s.try(s.scratch, "sqlite3", "-cmd", ".timeout 60000", "-cmd", "pragma journal_mode="+mode, db, inserts(w)); err != nil {
				s.Errorf("writer %d: %v\n%s", w, err, out)
			}
		})
	}
	wait.Wait()
	s.wantOutput("ok", s.scratch, "sqlite3", db, "pragma integrity_check;")
	want := fmt.Sprintf("%d|%d", writers*transactions*10, writers*transactions)
	s.wantOutput(want, s.scratch, "sqlite3", db, "select count(*), (select n from sum) from t;")
	s.run(s.scratch, "sqlite3", db, "delete from t where n % 3 = 0; vacuum;")
	s.wantOutput("ok", s.scratch, "sqlite3", db, "pragma integrity_check;")
}

// inserts are transactions of a writer, each of ten rows and a count.
func inserts(writer int) string {
	var b strings.Builder
	for i := range transactions {
		b.WriteString("begin immediate; update sum set n = n + 1;")
		for j := range 10 {
			fmt.Fprintf(&b, "insert into t values(%d, %d, hex(randomblob(200)));", writer, i*10+j)
		}
		b.WriteString("commit;\n")
	}
	return b.String()
}
