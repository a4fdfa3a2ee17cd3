package s3

import (
	"net/url"
	"strings"
)

// quirks are in what servers of the protocol differ. What none of them lacks,
// such as deleting by batches, is not here.
type quirks struct {
	name         string // for people
	condCopy     bool   // CopyObject honours conditions on its destination
	pinnedParts  bool   // UploadPartCopy honours conditions on its source
	uniformParts bool   // all parts but the last have one size, and the last no more
	pathStyle    bool   // the bucket stands in the path, not in the host's name
	maxPart      int64  // bytes
	region       string // to sign for, whatever is configured; "" is what is configured
	homes        bool   // a bucket has a region that only it can be asked in

	anonymous      bool     // it takes requests that nobody signed
	sse            bool     // it encrypts by x-amz-server-side-encryption
	tags           bool     // objects have tags
	requesterPays  bool     // it knows x-amz-request-payer
	storageClasses []string // nil is any
}

// providers are the servers whose quirks we know, by the scheme of a URL and
// the end of the endpoint's host. The first that fits is taken.
var providers = []struct {
	scheme, host string
	quirks       quirks
}{
	{"r2", "", r2Quirks},
	{"s3", ".r2.cloudflarestorage.com", r2Quirks},
	{"s3", ".amazonaws.com", amazonQuirks},
	{"s3", ".amazonaws.com.cn", amazonQuirks},
	// As far as we know only Amazon's honours the conditions of a copy:
	// versitygw, MinIO and the others ignore them. BUCKET.localhost is no host.
	{"s3", "", quirks{name: "this server", pinnedParts: true, pathStyle: true, maxPart: 5 << 30,
		anonymous: true, sse: true, tags: true, requesterPays: true}},
}

var amazonQuirks = quirks{name: "Amazon S3", condCopy: true, pinnedParts: true, homes: true, maxPart: 5 << 30,
	anonymous: true, sse: true, tags: true, requesterPays: true}

// r2Quirks are from Cloudflare's table of what its S3 API implements. A copy's
// conditions on its destination have headers of their own there, in beta, which
// do not go together with conditions on the source; so they count as none.
var r2Quirks = quirks{name: "R2", uniformParts: true, pathStyle: true,
	maxPart: 5<<30 - 5<<20,
	// "auto", its own name, makes the SDK match regular expressions on every
	// request; us-east-1 is documented to sign the same.
	region: defaultRegion, storageClasses: []string{"STANDARD", "STANDARD_IA"}}

// quirksOf returns those of the server at endpoint; "" is Amazon's own.
func quirksOf(scheme, endpoint string) quirks {
	host := "s3.amazonaws.com"
	if u, err := url.Parse(endpoint); err == nil && endpoint != "" {
		host = u.Hostname()
	}
	for _, p := range providers {
		if p.scheme == scheme && strings.HasSuffix(host, p.host) {
			return p.quirks
		}
	}
	return quirks{}
}
