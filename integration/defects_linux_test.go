package integration_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// A name that is no UTF-8 does not fail the storage; what could not be uploaded
// keeps one that is not persistent.
func TestD14NameInOtherEncoding(t *testing.T) {
	s := newShop(t)
	name := s.name("temp")
	write(t, filepath.Join(s.source, "good"), "good")
	write(t, filepath.Join(s.source, "bad-\xff-name"), "bad")
	s.mounts(t, "/one: {name: "+name+", source: "+s.source+", persistent: false}")
	s.sync(t, 3)
	if !holds(s.in(name, "good"), "good") {
		t.Error("the other file is not in the bucket")
	}
	r := s.home.Run(t, "storage", "release", name)
	if r.Code != 1 || !strings.Contains(r.Stderr, "stays although it is not persistent: not all of its source was uploaded") {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if !there(s.in(name, "good")) {
		t.Error("the bucket went")
	}
}
