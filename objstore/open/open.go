// Package open opens the bucket that a URL names: it is the one place that
// knows every kind of store. It promises that an error is one line which names
// the URL and what to write instead. It does not ask whether the bucket
// exists, and adds neither retries nor metrics.
package open

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/file"
	"github.com/skyagent/skyagent/objstore/pace"
)

// Options say how to reach a bucket where its URL does not: a parameter of the
// URL wins over the option of the same name.
type Options struct {
	Endpoint  string      // ?endpoint=
	Region    string      // ?region=, for gs:// ?location=
	Profile   string      // ?profile=
	Anonymous bool        // ?anonymous=true; r2:// has none
	Limits    pace.Limits // of all requests
	Uploads   string      // directory that remembers unfinished uploads; "" aborts them
}

// Schemes are those that Bucket opens.
var Schemes = []string{"file", "s3", "r2", "gs"}

// Bucket returns the Store for a URL:
//
//	file:///path[?xattr=off]
//	s3://bucket[/prefix][?endpoint=URL&region=R&profile=P&anonymous=true&path-style=true
//	    &sse=aws:kms&sse-kms-key-id=K&storage-class=C&tags=K:V,K:V&requester-pays=true]
//	r2://bucket[/prefix][?account=ID&jurisdiction=eu&endpoint=URL&profile=P&storage-class=C]
//	gs://bucket[/prefix][?endpoint=URL&anonymous=true&project=P&location=L&storage-class=C
//	    &kms-key=K&user-project=P]
func Bucket(ctx context.Context, url string, opts Options) (objstore.Store, error) {
	at, err := objstore.ParseLocation(url)
	if err != nil {
		return nil, err
	}
	return Location(ctx, at, opts)
}

// Location returns the Store for a URL that is parsed.
func Location(ctx context.Context, at objstore.Location, opts Options) (objstore.Store, error) {
	switch at.Scheme {
	case "file":
		return openFile(at)
	case "s3", "r2":
		return openS3(ctx, at, opts)
	case "gs":
		return openGCS(ctx, at, opts)
	}
	return nil, fmt.Errorf("bucket URL %q: %s:// is not supported yet; what is: %s://", at, at.Scheme, strings.Join(Schemes, "://, "))
}

func openFile(at objstore.Location) (objstore.Store, error) {
	if err := known(at, "xattr"); err != nil {
		return nil, err
	}
	xattr, err := flag(at, "xattr", true)
	if err != nil {
		return nil, err
	}
	return file.New(file.Config{Path: at.Bucket, NoXattr: !xattr})
}

// known refuses parameters that would be ignored: a slip of the pen must not
// send data elsewhere.
func known(at objstore.Location, names ...string) error {
	for name := range at.Params {
		if !slices.Contains(names, name) {
			return fmt.Errorf("bucket URL %q: no parameter %q; %s:// has %s", at, name, at.Scheme, strings.Join(names, ", "))
		}
	}
	return nil
}

func text(at objstore.Location, name, otherwise string) string {
	if at.Params.Has(name) {
		return at.Params.Get(name)
	}
	return otherwise
}

// flag reads a parameter that is on or off.
func flag(at objstore.Location, name string, otherwise bool) (bool, error) {
	switch v := text(at, name, strconv.FormatBool(otherwise)); v {
	case "true", "on", "1", "":
		return true, nil
	case "false", "off", "0":
		return false, nil
	default:
		return false, fmt.Errorf("bucket URL %q: %s is %q, not on or off", at, name, v)
	}
}
