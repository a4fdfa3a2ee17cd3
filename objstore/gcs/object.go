package gcs

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/skyagent/skyagent/objstore"
)

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	info, err := s.head(ctx, key, "")
	return info, s.fail(ctx, objstore.OpHead, key, err)
}

func (s *Store) head(ctx context.Context, key string, at objstore.Rev) (objstore.Info, error) {
	o, err := s.at(key, at)
	if err != nil {
		return objstore.Info{}, err
	}
	attrs, err := o.Attrs(ctx)
	if err != nil {
		return objstore.Info{}, unmatched(err, at)
	}
	return describe(key, attrs), nil
}

// held reports whether err is not about a condition.
func held(err error) bool {
	return !errors.Is(err, objstore.ErrPrecondition) && status(err) != http.StatusPreconditionFailed
}

// Get implements objstore.Store, by the XML API, in one request: the JSON one
// answers without the metadata, and the SDK's reader can say neither that the
// bucket is missing nor where an object ends that a range lies behind.
func (s *Store) Get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	body, info, err := s.get(ctx, key, off, n, cond)
	return body, info, s.fail(ctx, objstore.OpGet, key, err)
}

func (s *Store) get(ctx context.Context, key string, off, n int64, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	if n == 0 {
		return s.nothing(ctx, key, cond) // HTTP has no empty range
	}
	req, err := s.getRequest(ctx, key, off, n, cond)
	if err != nil {
		return nil, objstore.Info{}, err
	}
	resp, err := s.client.http.Do(req)
	if err != nil {
		return nil, objstore.Info{}, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		body, info, err := read(key, resp)
		if err == nil && req.Header.Get("Range") != "" {
			err = objstore.InRange(resp, off, n, info.Size)
		}
		if err != nil {
			resp.Body.Close()
			return nil, objstore.Info{}, err
		}
		return body, info, nil
	case http.StatusRequestedRangeNotSatisfiable:
		resp.Body.Close()
		return s.nothing(ctx, key, cond)
	}
	defer resp.Body.Close()
	return nil, objstore.Info{}, unmatched(xmlError(resp), cond.If)
}

func (s *Store) getRequest(ctx context.Context, key string, off, n int64, cond objstore.Cond) (*http.Request, error) {
	o, err := s.at(key, cond.If)
	if err != nil {
		return nil, err
	}
	// Escaped as one segment, a key may hold "//" and "..".
	where := s.client.url + "/" + url.PathEscape(s.config.Bucket) + "/" + url.PathEscape(o.ObjectName())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "gzip") // what is stored so is not to be unpacked
	if r := objstore.ByteRange(off, n); r != "" {
		req.Header.Set("Range", r)
	}
	if cond.If != "" {
		req.Header.Set("x-goog-if-generation-match", string(cond.If))
	}
	if s.config.UserProject != "" {
		req.Header.Set("x-goog-user-project", s.config.UserProject)
	}
	return req, nil
}

// nothing answers a Get of no bytes.
func (s *Store) nothing(ctx context.Context, key string, cond objstore.Cond) (io.ReadCloser, objstore.Info, error) {
	info, err := s.head(ctx, key, cond.If)
	if err != nil {
		return nil, info, err
	}
	return http.NoBody, info, nil
}

// read takes the object's description and body from the answer to a Get.
func read(key string, resp *http.Response) (io.ReadCloser, objstore.Info, error) {
	h := resp.Header
	info := objstore.Info{Key: key, Size: resp.ContentLength, Rev: objstore.Rev(h.Get("X-Goog-Generation")), Meta: map[string]string{}}
	var err error
	if info.ModTime, err = http.ParseTime(h.Get("Last-Modified")); err != nil {
		info.ModTime = time.Time{}
	}
	for name := range h {
		if name, ok := strings.CutPrefix(name, "X-Goog-Meta-"); ok {
			info.Meta[strings.ToLower(name)] = h.Get("X-Goog-Meta-" + name)
		}
	}
	if info.Rev == "" {
		return nil, info, errors.New("the answer names no generation")
	}
	if resp.StatusCode == http.StatusPartialContent {
		_, total, _ := strings.Cut(h.Get("Content-Range"), "/")
		if info.Size, err = strconv.ParseInt(total, 10, 64); err != nil {
			return nil, info, fmt.Errorf("content range %q: %w", h.Get("Content-Range"), err)
		}
		return resp.Body, info, nil
	}
	if want, ok := crc32cOf(h); ok {
		return &checked{ReadCloser: resp.Body, left: resp.ContentLength, want: want}, info, nil
	}
	return resp.Body, info, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32cOf returns the checksum of the whole object, from headers like
// "crc32c=n03x6A==,md5=...".
func crc32cOf(h http.Header) (uint32, bool) {
	for _, line := range h.Values("X-Goog-Hash") {
		for hash := range strings.SplitSeq(line, ",") {
			if encoded, ok := strings.CutPrefix(strings.TrimSpace(hash), "crc32c="); ok {
				b, err := base64.StdEncoding.DecodeString(encoded)
				return binary.BigEndian.Uint32(append(b, 0, 0, 0, 0)), err == nil && len(b) == 4
			}
		}
	}
	return 0, false
}

// A checked is the body of a whole object that breaks before its last bytes
// when they are not those of the checksum.
type checked struct {
	io.ReadCloser
	left      int64 // bytes to come; negative when that is not known
	sum, want uint32
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.left -= int64(n)
	c.sum = crc32.Update(c.sum, castagnoli, p[:n])
	if (c.left == 0 || err == io.EOF && c.left < 0) && c.sum != c.want {
		return 0, fmt.Errorf("the bytes have CRC32C %08x, the store says %08x: %w", c.sum, c.want, fs.ErrInvalid)
	}
	return n, err
}

// Copy implements objstore.Store. A large object that changes its place or its
// class takes several requests, and appears with the last.
func (s *Store) Copy(ctx context.Context, dst, src string, from objstore.Rev, opts objstore.PutOptions) (objstore.Info, error) {
	info, err := s.copy(ctx, dst, src, from, opts)
	return info, s.fail(ctx, objstore.OpCopy, dst, err)
}

func (s *Store) copy(ctx context.Context, dst, src string, from objstore.Rev, opts objstore.PutOptions) (objstore.Info, error) {
	if from == "" {
		have, err := s.head(ctx, src, "")
		if err != nil {
			return objstore.Info{}, err
		}
		from = have.Rev
	}
	source, err := s.at(src, from)
	if err != nil {
		return objstore.Info{}, err
	}
	to, err := s.under(dst, opts.Cond)
	if err != nil {
		return objstore.Info{}, err
	}
	c := to.CopierFrom(source)
	// With one attribute set none is taken over from the source: without
	// metadata the copy has none.
	c.ContentType, c.Metadata = contentType, opts.Meta
	c.StorageClass, c.DestinationKMSKeyName = s.config.StorageClass, s.config.KMSKey
	attrs, err := c.Run(ctx)
	if err != nil {
		return objstore.Info{}, unmatched(err, from)
	}
	return describe(dst, attrs), nil
}
