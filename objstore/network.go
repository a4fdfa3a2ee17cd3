package objstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
)

// Network names an error that kept a request from being answered: it is
// ErrTLS, ErrUnreachable, or what it was. Its words stay.
func Network(err error) error {
	switch {
	case err == nil:
		return nil
	case insecure(err):
		return &named{ErrTLS, err}
	case unreachable(err):
		return &named{ErrUnreachable, err}
	}
	return err
}

// ByteRange returns the Range header for n bytes from off on; n < 0 is all that
// follow, and the whole object needs none.
func ByteRange(off, n int64) string {
	switch {
	case off == 0 && n < 0:
		return ""
	case n < 0 || n > math.MaxInt64-off:
		return fmt.Sprintf("bytes=%d-", off)
	}
	return fmt.Sprintf("bytes=%d-%d", off, off+n-1)
}

// InRange returns an error unless resp answers a request for n bytes from off
// on (n < 0 is all that follow) of an object of size bytes: what stands before a
// server may ignore the range and pass on the whole object.
func InRange(resp *http.Response, off, n, size int64) error {
	got := resp.Header.Get("Content-Range")
	if resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(got, fmt.Sprintf("bytes %d-", off)) ||
		resp.StatusCode == http.StatusOK && off == 0 && n >= size {
		return nil
	}
	return fmt.Errorf("asked for bytes from %d on, the server sends %q", off, got)
}

// insecure reports whether TLS failed for a reason that waiting does not remove.
func insecure(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		unknown     x509.UnknownAuthorityError
		invalid     x509.CertificateInvalidError
		hostname    x509.HostnameError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &certificate) || errors.As(err, &unknown) ||
		errors.As(err, &invalid) || errors.As(err, &hostname) || errors.As(err, &record) || errors.As(err, &alert)
}

// unreachable reports whether there was no connection: no such host, nobody
// who listens, no way there.
func unreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect")
}

// A named error has one of the package's names and the words of its cause.
type named struct{ kind, cause error }

func (e *named) Error() string   { return e.cause.Error() }
func (e *named) Unwrap() []error { return []error{e.kind, e.cause} }
