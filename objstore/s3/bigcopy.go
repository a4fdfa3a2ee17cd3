package s3

import (
	"context"

	"github.com/skyagent/skyagent/objstore"
)

// copyLarge copies the object at src, which one request cannot copy, as a
// multipart upload of its ranges. The copy appears at once, and only if src
// stayed what have describes: it is looked at once more before, for servers that
// do not pin a range. Unlike a CopyObject it keeps opts.Cond on
// every server.
func (s *Store) copyLarge(ctx context.Context, dst, src string, have objstore.Info, opts objstore.PutOptions) (objstore.Info, error) {
	check := func() error {
		_, err := s.head(ctx, src, objstore.Cond{If: have.Rev})
		return err
	}
	return s.upload(ctx, upload{name: dst, from: src, base: have.Rev}, s.ranges(have.Size), check, opts)
}

// ranges cuts an object of size bytes into parts of one size that are all
// copies: as long as usual, and longer where they would be too many.
func (s *Store) ranges(size int64) []objstore.Part {
	most := int64(s.caps.MaxParts)
	step := min(max(s.copies, (size+most-1)/most), s.caps.MaxPart)
	parts := make([]objstore.Part, 0, size/step+1)
	for off := int64(0); off < size; off += step {
		parts = append(parts, objstore.Part{Size: min(step, size-off), Base: off})
	}
	return parts
}
