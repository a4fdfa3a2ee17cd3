package objstore

import (
	"errors"
	"fmt"
	"io/fs"
)

// CheckParts says whether Assemble would take parts for an object whose base
// has baseSize bytes; the error is an fs.ErrInvalid. A negative baseSize is an
// unknown one and leaves the ranges of the base unchecked.
func (c Caps) CheckParts(parts []Part, baseSize int64) error {
	if len(parts) > c.MaxParts {
		return fmt.Errorf("%d parts are more than %d: %w", len(parts), c.MaxParts, fs.ErrInvalid)
	}
	for i, p := range parts {
		if err := c.checkPart(p, i, len(parts)-1, baseSize); err != nil {
			return fmt.Errorf("part %d of %d bytes: %w: %w", i, p.Size, err, fs.ErrInvalid)
		}
		if c.UniformParts && (p.Size > parts[0].Size || i < len(parts)-1 && p.Size != parts[0].Size) {
			return fmt.Errorf("part %d of %d bytes: others have %d: %w", i, p.Size, parts[0].Size, fs.ErrInvalid)
		}
	}
	return nil
}

func (c Caps) checkPart(p Part, i, last int, baseSize int64) error {
	whole := i == 0 && p.Body == nil && p.Base == 0 && (p.Size == baseSize || baseSize < 0)
	switch {
	case p.Size <= 0:
		return errors.New("it is empty")
	case c.Append && !c.RangeCopy && whole:
		return nil
	case p.Size < c.MinPart && i != last:
		return fmt.Errorf("the least is %d", c.MinPart)
	case p.Size > c.MaxPart:
		return fmt.Errorf("the most is %d", c.MaxPart)
	case p.Body != nil:
		return nil
	case !c.RangeCopy:
		return errors.New("the store cannot copy that range")
	case p.Base < 0 || baseSize >= 0 && p.Base+p.Size > baseSize:
		return fmt.Errorf("range %d+%d is outside the base of %d bytes", p.Base, p.Size, baseSize)
	}
	return nil
}

// PartsSize returns the size of the object that parts make, and how many of
// its bytes are new.
func PartsSize(parts []Part) (size, fresh int64) {
	for _, p := range parts {
		size += p.Size
		if p.Body != nil {
			fresh += p.Size
		}
	}
	return size, fresh
}

// NeedsBase reports whether any of parts is a range of the base.
func NeedsBase(parts []Part) bool {
	for _, p := range parts {
		if p.Body == nil {
			return true
		}
	}
	return false
}
