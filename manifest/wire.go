package manifest

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Zero values are not written: a field that is absent is zero.

func appendUint(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func appendInt(b []byte, n protowire.Number, v int64) []byte {
	return appendUint(b, n, protowire.EncodeZigZag(v))
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendString(b []byte, n protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendHash(b []byte, n protowire.Number, h Hash) []byte {
	if h.IsZero() {
		return b
	}
	return appendBytes(b, n, h[:])
}

// A field is one field of a message: uint is set for a number, bytes for the rest.
type field struct {
	num   protowire.Number
	uint  uint64
	bytes []byte
}

func (f field) int() int64 { return protowire.DecodeZigZag(f.uint) }

func (f field) hash() (Hash, error) {
	if len(f.bytes) != len(Hash{}) {
		return Hash{}, fmt.Errorf("%w: hash of %d bytes", ErrCorrupt, len(f.bytes))
	}
	return Hash(f.bytes), nil
}

func (f field) hashes() ([]Hash, error) {
	const size = len(Hash{})
	if len(f.bytes)%size != 0 {
		return nil, fmt.Errorf("%w: hashes of %d bytes", ErrCorrupt, len(f.bytes))
	}
	list := make([]Hash, 0, len(f.bytes)/size)
	for i := 0; i < len(f.bytes); i += size {
		list = append(list, Hash(f.bytes[i:i+size]))
	}
	return list, nil
}

// eachField calls visit for every number and every length-delimited field of
// msg, in order, and skips fields of other types: nothing of ours has them.
func eachField(msg []byte, visit func(field) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return fmt.Errorf("%w: %v", ErrCorrupt, protowire.ParseError(n))
		}
		msg = msg[n:]
		f := field{num: num}
		switch typ {
		case protowire.VarintType:
			f.uint, n = protowire.ConsumeVarint(msg)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(msg)
		default:
			n = protowire.ConsumeFieldValue(num, typ, msg)
		}
		if n < 0 {
			return fmt.Errorf("%w: %v", ErrCorrupt, protowire.ParseError(n))
		}
		msg = msg[n:]
		if typ == protowire.VarintType || typ == protowire.BytesType {
			if err := visit(f); err != nil {
				return err
			}
		}
	}
	return nil
}
