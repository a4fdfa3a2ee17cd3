package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/skyagent/skyagent/objstore"
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
		return fmt.Errorf("the bucket is in region %s: %w", region, fs.ErrInvalid)
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
	case "RequestTimeout", "IncompleteBody", "BadDigest", "RequestTimeTooSkewed", // send it again
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
	case status == http.StatusConflict:
		// Two writers at once, by whatever code. versitygw says so as well of
		// "a" and "a/b", which it cannot both hold, and, when they race, of a
		// Put and the Delete of its last neighbour.
		return nil
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
		return fmt.Errorf("%w: %s: %s", kind, code, message)
	case fs.ErrPermission, objstore.ErrThrottled, errors.ErrUnsupported:
		if code != "" {
			return fmt.Errorf("%w (%s)", kind, code)
		}
	}
	return kind
}

// transport takes the SDK's words and the URL off an error of the network.
func transport(err error) error {
	if errors.Is(err, errStalled) {
		return errStalled
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
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
