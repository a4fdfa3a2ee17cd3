package servers

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// A gcsUpload is a resumable upload. A chunk whose answer was lost comes again,
// and Google takes it for what it has; fake-gcs-server appends it once more,
// and forgets an upload at its end.
type gcsUpload struct {
	have  int64          // bytes
	final *http.Response // when it has ended
	body  []byte         // of final
}

func (u *gcsUpload) again() *http.Response {
	if u.final == nil {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{
			"X-Http-Status-Code-Override": {"308"}, "Range": {fmt.Sprintf("bytes=0-%d", u.have-1)}}}
	}
	resp := *u.final
	resp.Body = io.NopCloser(bytes.NewReader(u.body))
	return &resp
}

// chunk passes a chunk of an upload on, unless it came before. It is called
// under the bucket's lock.
func (p *gcsProxy) chunk(q *gcsRequest) (*http.Response, error) {
	u := p.upload(q.query.Get("upload_id"))
	var first, last int64
	_, err := fmt.Sscanf(strings.TrimPrefix(q.Header.Get("Content-Range"), "bytes "), "%d-%d/", &first, &last)
	if u.final != nil || err == nil && last < u.have {
		return u.again(), nil
	}
	resp, err := p.forward(q)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	u.have = max(u.have, last+1)
	if resp.Header.Get("X-Http-Status-Code-Override") == "308" {
		return resp, nil
	}
	defer resp.Body.Close()
	u.body, err = io.ReadAll(resp.Body)
	u.final = resp
	return u.again(), err
}

func (p *gcsProxy) upload(id string) *gcsUpload {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.uploads[id]
	if u == nil {
		u = &gcsUpload{}
		p.uploads[id] = u
	}
	return u
}
