package s3

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/skyagent/skyagent/objstore"
)

// calmed adds to the error that err became how long the server asks to wait.
// A 503 that says so asks for fewer requests, by whatever code.
func calmed(became, err error) error {
	var resp *smithyhttp.ResponseError
	if !errors.As(err, &resp) || resp.Response == nil || resp.Response.Response == nil {
		return became
	}
	seconds, bad := strconv.Atoi(resp.Response.Header.Get("Retry-After"))
	if bad != nil || seconds < 0 || !errors.Is(became, objstore.ErrThrottled) && resp.HTTPStatusCode() != http.StatusServiceUnavailable {
		return became
	}
	return &objstore.Throttled{After: time.Duration(seconds) * time.Second, Err: became}
}
