package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/patience"
)

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
	code, message := "", ""
	var api smithy.APIError
	if errors.As(err, &api) {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	st := status(err)
	if code == "" && st == 0 {
		return transport(err)
	}
	if region := bucketRegion(err); region != "" && (st == http.StatusMovedPermanently || st == http.StatusBadRequest) {
		return &RegionError{Region: region}
	}
	if at := expecting.FindStringSubmatch(message); code == "AuthorizationHeaderMalformed" && at != nil {
		return &RegionError{Region: at[1]}
	}
	if wantsTLS(err, code) {
		return fmt.Errorf("%w: %w", objstore.ErrTLS, ErrPlainHTTP)
	}
	if off := skew(err, code); off != 0 {
		return &ClockError{Ahead: off}
	}
	if kind := kindOf(code, st); kind != nil {
		return calmed(detailed(kind, code, message), err)
	}
	return calmed(fmt.Errorf("server says %d %s: %s", st, code, message), err)
}

// kindOf returns the name of an answer, nil for one that may pass. A HEAD's
// answer has no code, only a status.
func kindOf(code string, status int) error {
	switch code {
	case "NoSuchBucket":
		return objstore.ErrNoBucket
	case "BucketAlreadyOwnedByYou":
		return fs.ErrExist
	case "PreconditionFailed": // under 200, as the end of a copy or an upload
		return objstore.ErrPrecondition
	case "BucketAlreadyExists", "AccessDenied", "ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "XAdminUserNotFound": // not all of them 403 everywhere
		return fs.ErrPermission
	case "BucketNotEmpty":
		return objstore.ErrNotEmpty
	case "SlowDown", "TooManyRequests", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestThrottled":
		return objstore.ErrThrottled
	case "RequestTimeout", "IncompleteBody", "BadDigest", // send it again
		"NoSuchUpload": // somebody swept it: assemble again
		return nil
	}
	switch {
	case status == http.StatusNotFound:
		return fs.ErrNotExist
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fs.ErrPermission
	case status == http.StatusPreconditionFailed:
		return objstore.ErrPrecondition
	case status == http.StatusTooManyRequests:
		return objstore.ErrThrottled
	case status == http.StatusRequestTimeout: // of a connection, by whatever stands before the server
		return nil
	case status == http.StatusConflict:
		// Two writers at once, by whatever code. versitygw says so as well of
		// "a" and "a/b", which it cannot both hold, and, when they race, of a
		// Put and the Delete of its last neighbour.
		return objstore.ErrConflict
	case status == http.StatusNotImplemented:
		return errors.ErrUnsupported
	case status >= 400 && status < 500:
		return fs.ErrInvalid
	}
	return nil
}

// detailed keeps what the server says where our name says less.
func detailed(kind error, code, message string) error {
	switch kind {
	case fs.ErrInvalid:
		if code == "" {
			return fmt.Errorf("%w: the server refuses it without a word", kind)
		}
		return fmt.Errorf("%w: %s: %s", kind, code, message)
	case objstore.ErrConflict:
		return fmt.Errorf("%w: server says %s: %s", kind, code, message)
	case fs.ErrPermission, objstore.ErrThrottled, errors.ErrUnsupported:
		if code != "" {
			return fmt.Errorf("%w (%s)", kind, code)
		}
	}
	return kind
}

// transport takes the SDK's words and the URL off an error of the network.
func transport(err error) error {
	if errors.Is(err, patience.ErrStalled) {
		return patience.ErrStalled
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return objstore.Network(err)
}

// ErrPlainHTTP says that a server which wants TLS was spoken to without.
var ErrPlainHTTP = errors.New("the server refuses plain HTTP")

// wantsTLS reports whether an answer is one to plain HTTP on a port for TLS: a
// 400 without a word of S3's. For a HEAD the SDK makes the code of the status.
func wantsTLS(err error, code string) bool {
	var resp *smithyhttp.ResponseError
	if code != "" && code != "BadRequest" || !errors.As(err, &resp) || resp.HTTPStatusCode() != http.StatusBadRequest || resp.Response == nil {
		return false
	}
	r := resp.Response.Response
	return r != nil && r.Request != nil && r.Request.URL.Scheme == "http" && r.Header.Get("X-Amz-Request-Id") == ""
}

// expecting finds the region in the words of a refusal that names it nowhere else.
var expecting = regexp.MustCompile(`expecting ['"]([a-z0-9-]+)['"]`)

// A RegionError says that requests went to another region than the bucket's.
// It is an fs.ErrInvalid.
type RegionError struct{ Region string }

func (e *RegionError) Error() string { return "the bucket is in region " + e.Region }

// Unwrap returns fs.ErrInvalid.
func (e *RegionError) Unwrap() error { return fs.ErrInvalid }

// A ClockError says that requests are refused because they look old, or not
// yet valid. It is an fs.ErrInvalid.
type ClockError struct {
	Ahead time.Duration // how far this machine's clock is before the server's
}

func (e *ClockError) Error() string {
	direction := "ahead of"
	if e.Ahead < 0 {
		direction = "behind"
	}
	return fmt.Sprintf("this machine's clock is %d minutes %s the server's", int(e.Ahead.Abs().Round(time.Minute).Minutes()), direction)
}

// Unwrap returns fs.ErrInvalid.
func (e *ClockError) Unwrap() error { return fs.ErrInvalid }

// Heals implements what objstore.Heals asks for.
func (e *ClockError) Heals() bool { return true }

// maxSkew is how far a clock may be off before S3 refuses what it signs.
const maxSkew = 15 * time.Minute

// skew returns how far this machine's clock is ahead when an answer is a
// refusal because of that, and 0 else. The answer to a HEAD has no code.
func skew(err error, code string) time.Duration {
	var resp *smithyhttp.ResponseError
	if !errors.As(err, &resp) || resp.HTTPStatusCode() != http.StatusForbidden || resp.Response == nil {
		return 0
	}
	at, err := http.ParseTime(resp.Response.Header.Get("Date"))
	if err != nil {
		return 0
	}
	off := time.Since(at)
	if code == "RequestTimeTooSkewed" || code == "RequestExpired" || off.Abs() > maxSkew {
		return off
	}
	return 0
}

// status returns the HTTP status of an answer, 0 when there was none.
func status(err error) int {
	var resp *smithyhttp.ResponseError
	if !errors.As(err, &resp) {
		return 0
	}
	return resp.HTTPStatusCode()
}

// bucketRegion returns the region that an answer says the bucket is in.
func bucketRegion(err error) string {
	var resp *smithyhttp.ResponseError
	if !errors.As(err, &resp) || resp.Response == nil || resp.Response.Response == nil {
		return ""
	}
	return resp.Response.Header.Get("X-Amz-Bucket-Region")
}

// unmatched turns the 404 of a missing key into what a condition on its
// revision is then: not held. Stores differ between 404 and 412.
func unmatched(err error, cond objstore.Cond) error {
	if cond.If != "" && status(err) == http.StatusNotFound && !hasCode(err, "NoSuchBucket", "NoSuchUpload") {
		return objstore.ErrPrecondition
	}
	return err
}

func hasCode(err error, codes ...string) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	for _, code := range codes {
		if strings.EqualFold(api.ErrorCode(), code) {
			return true
		}
	}
	return false
}

// errOdd is an answer of success without what it must hold: it came from
// something on the way, and another may come from the server.
var errOdd = errors.New("answer of success without content")
