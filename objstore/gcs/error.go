package gcs

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	"github.com/skyagent/skyagent/objstore"
)

// A CredentialsError says that no credentials were found where Google's tools
// look for them, or that those that were could not be used. It is an
// fs.ErrPermission.
type CredentialsError struct {
	Bucket objstore.Location
	Err    error // of the search, or of Google; not unwrapped, since a missing file is no missing object
}

// Error names the bucket, in one line.
func (e *CredentialsError) Error() string {
	if strings.Contains(e.Err.Error(), "could not find default credentials") {
		return e.Bucket.URL() + ": no Google Cloud credentials found"
	}
	return e.Bucket.URL() + ": Google Cloud credentials: " + oneLine(e.Err)
}

// Unwrap returns fs.ErrPermission.
func (e *CredentialsError) Unwrap() error { return fs.ErrPermission }

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// theirs is an error of the caller's own, which is returned as it is.
type theirs struct{ error }

// fail names what a request met: operation, bucket and key once, and the cause
// by one of objstore's names where it has one. An err that is named stays.
func (s *Store) fail(ctx context.Context, op objstore.Op, key string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return &objstore.Error{Op: op, Bucket: s.where, Key: key, Err: named(err)}
}

// named translates an error of the SDK. What has no name is taken for passing
// by whoever retries: lost connections, 5xx, 409 of two writers at once.
func named(err error) error {
	var own theirs
	var answer *googleapi.Error
	var token *auth.Error
	switch {
	case errors.As(err, &own):
		return own.error
	case errors.As(err, &answer):
		return calmed(namedAnswer(answer, errors.Is(err, storage.ErrBucketNotExist)), answer)
	case errors.As(err, &token) && !token.Temporary():
		return fmt.Errorf("%w (credentials: %s)", fs.ErrPermission, oneLine(token))
	}
	return transport(err)
}

func namedAnswer(e *googleapi.Error, noBucket bool) error {
	said := strings.Join(strings.Fields(e.Message), " ")
	switch kind := kindOf(e); {
	case kind == nil:
		return fmt.Errorf("server says %d: %s", e.Code, said)
	case kind == fs.ErrNotExist && noBucket:
		return objstore.ErrNoBucket
	case kind == fs.ErrInvalid:
		return fmt.Errorf("%w: %s", kind, said)
	case (kind == fs.ErrPermission || kind == objstore.ErrThrottled) && said != "":
		return fmt.Errorf("%w (%s)", kind, said)
	default:
		return kind
	}
}

// calmed adds to the error that e became how long the server asks to wait.
func calmed(became error, e *googleapi.Error) error {
	seconds, err := strconv.Atoi(e.Header.Get("Retry-After"))
	if err != nil || seconds < 0 || e.Code != http.StatusTooManyRequests && e.Code != http.StatusServiceUnavailable {
		return became
	}
	return &objstore.Throttled{After: time.Duration(seconds) * time.Second, Err: became}
}

// kindOf returns the name of an answer, nil for one that may pass.
func kindOf(e *googleapi.Error) error {
	switch code := e.Code; {
	case code == http.StatusNotFound && saysNoBucket(e):
		return objstore.ErrNoBucket
	case code == http.StatusNotFound:
		return fs.ErrNotExist
	case code == http.StatusTooManyRequests, code == http.StatusForbidden && hasReason(e, "rateLimitExceeded", "userRateLimitExceeded"):
		return objstore.ErrThrottled
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fs.ErrPermission
	case code == http.StatusPreconditionFailed:
		return objstore.ErrPrecondition
	case code == http.StatusNotImplemented:
		return errors.ErrUnsupported
	case code == http.StatusConflict, code == http.StatusRequestTimeout,
		code == http.StatusGone, // an upload that the server has lost
		code == http.StatusBadRequest && strings.Contains(strings.ToLower(e.Message), "crc32c"): // damaged on the way
		return nil
	case code >= 400 && code < 500:
		return fs.ErrInvalid
	}
	return nil
}

func hasReason(e *googleapi.Error, reasons ...string) bool {
	for _, item := range e.Errors {
		for _, reason := range reasons {
			if item.Reason == reason {
				return true
			}
		}
	}
	return false
}

// saysNoBucket knows a missing bucket from a missing object: only the words
// differ.
func saysNoBucket(e *googleapi.Error) bool {
	return strings.Contains(e.Message, "bucket does not exist") || hasReason(e, "NoSuchBucket")
}

// transport takes the SDK's words and the URL off an error of the network.
func transport(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return objstore.Network(err)
}

// status returns the HTTP status of an answer, 0 when there was none.
func status(err error) int {
	var answer *googleapi.Error
	if !errors.As(err, &answer) {
		return 0
	}
	return answer.Code
}

// missing reports whether err says that the object is not there, in a bucket
// that is.
func missing(err error) bool {
	var answer *googleapi.Error
	return errors.As(err, &answer) && answer.Code == http.StatusNotFound && !saysNoBucket(answer)
}

// unmatched turns the 404 of a missing key into what a condition on its
// revision is then: not held.
func unmatched(err error, rev objstore.Rev) error {
	if rev != "" && missing(err) {
		return objstore.ErrPrecondition
	}
	return err
}

// xmlError reads the answer to a request of the XML API that failed.
func xmlError(resp *http.Response) error {
	var said struct{ Code, Message string }
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if xml.Unmarshal(body, &said) != nil { // a proxy's page, or nothing
		said.Message = http.StatusText(resp.StatusCode)
	}
	return &googleapi.Error{Code: resp.StatusCode, Message: said.Message, Header: resp.Header,
		Errors: []googleapi.ErrorItem{{Reason: said.Code, Message: said.Message}}}
}
