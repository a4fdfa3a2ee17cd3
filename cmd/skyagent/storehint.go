package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/gcs"
	"github.com/skyagent/skyagent/objstore/s3"
)

// A service is what a scheme's users call the places that lead to their store.
type service struct {
	credentials string // where they are, for an account that lacks rights
	setup       string // what to make when there are none
	endpoint    string // the variable that moves it elsewhere
}

var services = map[string]service{
	"s3": {
		credentials: "AWS_PROFILE, AWS_ACCESS_KEY_ID",
		setup:       "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; --anonymous reads a public bucket",
		endpoint:    "AWS_ENDPOINT_URL_S3",
	},
	"r2": {
		credentials: "~/.cloudflare/r2.credentials, R2_ACCESS_KEY_ID",
		setup: "put an API token's keys under [r2] in ~/.cloudflare/r2.credentials and the account's id in ~/.cloudflare/accountid, " +
			"or set R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY and R2_ACCOUNT_ID",
		endpoint: "R2_ENDPOINT_URL",
	},
	"gs": {
		credentials: "GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login",
		setup:       "run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS; --anonymous reads a public bucket",
		endpoint:    "STORAGE_EMULATOR_HOST",
	},
}

// storeHint knows what stores refuse, and what keeps us from them.
func storeHint(err error) string {
	var (
		noCreds *s3.CredentialsError
		noADC   *gcs.CredentialsError
		region  *s3.RegionError
		clock   *s3.ClockError
		store   *objstore.Error
	)
	if errors.As(err, &noCreds) {
		return services[noCreds.Bucket.Scheme].setup
	}
	if errors.As(err, &noADC) {
		return services["gs"].setup
	}
	if !errors.As(err, &store) {
		return ""
	}
	switch {
	case errors.As(err, &region):
		return "set AWS_REGION=" + region.Region + ", or leave ?region= out of the URL"
	case errors.As(err, &clock):
		return "set this machine's clock: start a time service (chrony, systemd-timesyncd, w32time)"
	case errors.Is(err, objstore.ErrNoBucket):
		return noBucketHint(store.Bucket)
	case errors.Is(err, objstore.ErrTLS):
		return tlsHint(err, services[store.Bucket.Scheme].endpoint)
	case errors.Is(err, objstore.ErrUnreachable):
		return unreachableHint(err, services[store.Bucket.Scheme].endpoint)
	case errors.Is(err, fs.ErrPermission) && store.Bucket.Scheme != "file":
		return fmt.Sprintf("check that your credentials (%s) may read and write %s", services[store.Bucket.Scheme].credentials, store.Bucket.URL())
	}
	return ""
}

func noBucketHint(at objstore.Location) string {
	switch at.Scheme {
	case "file":
		return "start skyagent watch or skyagent sync for this storage first, or check the path"
	case "r2":
		return "create the bucket first, or check its name, ~/.cloudflare/accountid and ?jurisdiction="
	case "gs":
		return "create the bucket first, with gcloud storage buckets create gs://" + at.Bucket + ", or check its name"
	}
	return "create the bucket first, or check its name, AWS_ENDPOINT_URL_S3 and AWS_REGION"
}

func tlsHint(err error, endpoint string) string {
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, s3.ErrPlainHTTP):
		return "write https:// in " + endpoint
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the server speaks plain HTTP: write http:// in " + endpoint
	case errors.As(err, &hostname):
		return "write a name that the certificate has in " + endpoint + "; ?path-style=true keeps the bucket out of it"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "check this machine's clock; if it is right, the server needs a new certificate"
	}
	return "give the certificate of the server's authority by AWS_CA_BUNDLE=FILE"
}

func unreachableHint(err error, endpoint string) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "check the network and the name in " + endpoint
	}
	return "nothing listens there: check " + endpoint + ", the network, and that the server runs"
}
