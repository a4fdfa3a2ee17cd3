package s3

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Options are what a bucket's owner wants said with requests.
type Options struct {
	SSE           string            // AES256, aws:kms or aws:kms:dsse; "" leaves it to the bucket
	SSEKMSKeyID   string            // with it an empty SSE is aws:kms
	StorageClass  string            // "" is the server's
	Tags          map[string]string // of every object that is written, at most 10
	RequesterPays bool              // we agree to be charged
}

// A header goes with requests as it is.
type header struct{ name, value string }

// extra are the headers that Options come to. They stand here once for all
// clients that send requests: the SDK's takes them by a middleware.
type extra struct {
	every []header // of all requests
	write []header // of PutObject and CreateMultipartUpload
	copy  []header // of CopyObject
}

// of returns the headers for an operation, by the protocol's name.
func (e extra) of(op string) []header {
	switch op {
	case "PutObject", "CreateMultipartUpload":
		return e.write
	case "CopyObject":
		return e.copy
	}
	return e.every
}

// extra returns the headers for o.
func (o Options) extra() extra {
	var e extra
	add := func(to *[]header, name, value string) {
		if value != "" {
			*to = append(*to, header{name, value})
		}
	}
	if o.RequesterPays {
		add(&e.every, "X-Amz-Request-Payer", "requester")
	}
	e.write = slices.Clone(e.every)
	add(&e.write, "X-Amz-Server-Side-Encryption", o.sse())
	add(&e.write, "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", o.SSEKMSKeyID)
	add(&e.write, "X-Amz-Storage-Class", o.StorageClass)
	add(&e.write, "X-Amz-Tagging", o.tagging())
	e.copy = slices.Clone(e.write)
	if len(o.Tags) > 0 {
		add(&e.copy, "X-Amz-Tagging-Directive", "REPLACE") // a copy has its source's otherwise
	}
	return e
}

func (o Options) sse() string {
	if o.SSE == "" && o.SSEKMSKeyID != "" {
		return "aws:kms"
	}
	return o.SSE
}

// tagging returns the tags as a query, in order of their keys.
func (o Options) tagging() string {
	q := make(url.Values, len(o.Tags))
	for k, v := range o.Tags {
		q.Set(k, v)
	}
	return strings.ReplaceAll(q.Encode(), "+", "%20")
}

const maxTags = 10

// check says what is wrong with o for a server with quirks q.
func (o Options) check(q quirks) error {
	switch {
	case (o.SSE != "" || o.SSEKMSKeyID != "") && !q.sse:
		return fmt.Errorf("%s takes no sse: it encrypts everything by itself", q.name)
	case len(o.Tags) > 0 && !q.tags:
		return fmt.Errorf("%s has no tags on objects", q.name)
	case o.RequesterPays && !q.requesterPays:
		return fmt.Errorf("%s has no requester-pays", q.name)
	case o.StorageClass != "" && q.storageClasses != nil && !slices.Contains(q.storageClasses, o.StorageClass):
		return fmt.Errorf("%s has no storage class %s; it has %s", q.name, o.StorageClass, strings.Join(q.storageClasses, " and "))
	case !slices.Contains([]string{"", "AES256", "aws:kms", "aws:kms:dsse"}, o.SSE):
		return fmt.Errorf("sse is %q, not AES256, aws:kms or aws:kms:dsse", o.SSE)
	case o.SSE == "AES256" && o.SSEKMSKeyID != "":
		return errors.New("sse-kms-key-id goes with sse=aws:kms")
	case len(o.Tags) > maxTags:
		return fmt.Errorf("%d tags are more than %d", len(o.Tags), maxTags)
	}
	return o.printable()
}

// check says what is wrong with c for a server with quirks q.
func (c Config) check(q quirks) error {
	err := c.Options.check(q)
	switch {
	case err != nil:
	case c.Anonymous && !q.anonymous:
		err = fmt.Errorf("%s takes no anonymous requests", q.name)
	case c.scheme() != "r2" && (c.Account != "" || c.Jurisdiction != ""):
		err = errors.New("account and jurisdiction are R2's")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.where().URL(), err)
	}
	return nil
}

// printable refuses what would not be one line of a header.
func (o Options) printable() error {
	for _, v := range append(slices.Collect(maps.Values(o.Tags)), o.SSEKMSKeyID, o.StorageClass) {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("%q holds control characters", v)
		}
	}
	return nil
}

// middleware adds the headers to the SDK's requests before they are signed.
func (e extra) middleware(stack *middleware.Stack) error {
	return stack.Build.Add(middleware.BuildMiddlewareFunc("skyagent:extra",
		func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
			if req, ok := in.Request.(*smithyhttp.Request); ok {
				for _, h := range e.of(middleware.GetOperationName(ctx)) {
					req.Header.Set(h.name, h.value)
				}
			}
			return next.HandleBuild(ctx, in)
		}), middleware.After)
}
