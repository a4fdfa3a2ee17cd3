package gcs_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/gcs"
)

// idle returns a store whose server does next to nothing: what is measured is
// the client. fake-gcs-server looks through all its objects for every request.
func idle(b *testing.B) *gcs.Store {
	body := []byte(strings.Repeat("x", 4096))
	return answering(b, gcs.Config{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("X-Goog-Generation", "1")
			w.Write(body)
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"generation":"1","size":"4096"}`)
	})
}

func benchmarkPut(b *testing.B, size int) {
	s, body := idle(b), strings.Repeat("x", size)
	opts := objstore.PutOptions{Cond: objstore.Cond{Absent: true}, Meta: map[string]string{"blake3": strings.Repeat("a", 64)}}
	var n atomic.Int64
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Put(b.Context(), fmt.Sprintf("k/%d", n.Add(1)), strings.NewReader(body), int64(size), opts); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkPut4K(b *testing.B) { benchmarkPut(b, 4<<10) }

func BenchmarkPut1M(b *testing.B) { benchmarkPut(b, 1<<20) }

func BenchmarkGet4K(b *testing.B) {
	s := idle(b)
	b.SetBytes(4 << 10)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			get(b, s, "k")
		}
	})
}
