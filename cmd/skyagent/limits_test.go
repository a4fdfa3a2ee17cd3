package main

import (
	"testing"

	"github.com/skyagent/skyagent/objstore/pace"
)

func TestBandwidth(t *testing.T) {
	for in, want := range map[string]pace.Limits{
		"10M":    {Upload: 10 << 20, Download: 10 << 20},
		"1m:10M": {Upload: 1 << 20, Download: 10 << 20},
		"off:2G": {Download: 2 << 30},
		"100":    {Upload: 100 << 10, Download: 100 << 10},
		"100B":   {Upload: 100, Download: 100},
		"1.5K":   {Upload: 1536, Download: 1536},
		"off":    {},
		"0":      {},
	} {
		var l pace.Limits
		if err := (*bandwidth)(&l).Set(in); err != nil || l != want {
			t.Errorf("--bwlimit %s: %+v, %v; want %+v", in, l, err, want)
		}
	}
	for _, in := range []string{"x", "-1M", "M", "1M:x", "1P", "1e300G"} {
		if err := (*bandwidth)(&pace.Limits{}).Set(in); err == nil {
			t.Errorf("--bwlimit %s was taken", in)
		}
	}
}
