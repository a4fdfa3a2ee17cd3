package manifest

import (
	"bytes"
	"crypto/rand"
	"fmt"
)

// A Voucher is what a bucket says of a writer, at .skyagent/writers/<id>: that
// whoever holds its key may write the bucket, and what marks as meant for this
// bucket what the key signs.
type Voucher struct {
	Public []byte // the public half of the writer's key
	// Seal is drawn at random, once for a writer and a bucket. The writer puts it
	// into all that it signs for the bucket, so that nothing of another one with
	// the same name on the bus is taken for it. "" is compared with nothing:
	// vouchers had none at first.
	Seal string
}

// NewVoucher returns one with a seal that nobody else will draw.
func NewVoucher(public []byte) Voucher { return Voucher{Public: public, Seal: rand.Text()} }

// Encode returns v as it stands in the bucket: the key and the seal, a line each.
func (v Voucher) Encode() []byte { return fmt.Appendf(nil, "%s\n%s\n", v.Public, v.Seal) }

// DecodeVoucher reads what Encode wrote. Whether the key is one, its reader
// finds out. Lines that it does not know are skipped.
func DecodeVoucher(b []byte) Voucher {
	public, rest, _ := bytes.Cut(b, []byte("\n"))
	seal, _, _ := bytes.Cut(rest, []byte("\n"))
	return Voucher{Public: bytes.TrimSpace(public), Seal: string(bytes.TrimSpace(seal))}
}
