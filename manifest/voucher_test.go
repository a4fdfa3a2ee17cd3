package manifest_test

import (
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

func TestVoucher(t *testing.T) {
	v, other := manifest.NewVoucher([]byte("key")), manifest.NewVoucher([]byte("key"))
	if v.Seal == "" || v.Seal == other.Seal {
		t.Errorf("seals %q and %q", v.Seal, other.Seal)
	}
	for in, want := range map[string]manifest.Voucher{
		string(v.Encode()):  v,
		"key":               {Public: []byte("key")},
		"key\n":             {Public: []byte("key")},
		"key\nseal\nmore\n": {Public: []byte("key"), Seal: "seal"},
		"key\r\nseal\r\n":   {Public: []byte("key"), Seal: "seal"},
		"":                  {},
	} {
		got := manifest.DecodeVoucher([]byte(in))
		if string(got.Public) != string(want.Public) || got.Seal != want.Seal {
			t.Errorf("%q: got %q and %q", in, got.Public, got.Seal)
		}
	}
}
