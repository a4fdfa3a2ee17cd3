package servers

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A gcsProxy stands before fake-gcs-server and keeps the part of Google's
// contract that it does not: preconditions of reads, deletes, composes and
// rewrites; buckets that are missing, there, or not empty; pages of 1,000 keys;
// metadata that a rewrite replaces. It reports a delete, a rewrite or a compose
// that lacks a generation.
//
// A condition and what depends on it happen under the lock of the bucket, and
// no request reaches the server whose body broke.
type gcsProxy struct {
	to       string // host:port of the server
	host     string // host:port of this proxy, which the server takes for its own
	report   func(format string, args ...any)
	uploaded atomic.Int64
	client   http.Client

	mu      sync.Mutex // guards what follows
	buckets map[string]*gcsBucket
	uploads map[string]*gcsUpload // by id; each is guarded by its bucket's lock
}

// A gcsBucket is locked for writing by what changes objects, and for reading by
// what reads them, until the server has answered.
type gcsBucket struct {
	sync.RWMutex
	there bool
}

func newGCSProxy(report func(string, ...any)) *gcsProxy {
	return &gcsProxy{report: report, buckets: map[string]*gcsBucket{}, uploads: map[string]*gcsUpload{},
		client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}}
}

func (p *gcsProxy) bucket(name string) *gcsBucket {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.buckets[name]
	if b == nil {
		b = &gcsBucket{}
		p.buckets[name] = b
	}
	return b
}

// A gcsRequest is what a request is about.
type gcsRequest struct {
	*http.Request
	body           []byte
	action         string // "", "compose", "rewriteTo"
	bucket, object string // of a rewrite the destination
	source         string // of a rewrite, in the same bucket
	query          url.Values
	xml            bool
}

func readGCSRequest(r *http.Request) (*gcsRequest, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	q := &gcsRequest{Request: r, body: body, query: r.URL.Query()}
	path, json := strings.CutPrefix(strings.TrimPrefix(r.URL.EscapedPath(), "/upload"), "/storage/v1/b")
	q.xml = !json
	seg := strings.Split(strings.Trim(path, "/"), "/") // an object's slashes are escaped
	for i := range seg {
		if seg[i], err = url.PathUnescape(seg[i]); err != nil {
			return nil, err
		}
	}
	q.bucket = seg[0]
	switch {
	case q.xml && len(seg) > 1:
		q.object = seg[1]
	case len(seg) == 8 && seg[3] == "rewriteTo":
		q.source, q.action, q.object = seg[2], seg[3], seg[7]
	case len(seg) > 2:
		q.object = seg[2]
	}
	if len(seg) == 4 {
		q.action = seg[3]
	}
	if json && q.bucket == "" && r.Method == http.MethodPost {
		q.bucket = newName(body)
		q.action = "create"
	}
	return q, nil
}

// newName returns the name of a bucket that is to be made.
func newName(body []byte) string {
	var b struct{ Name string }
	if json.Unmarshal(body, &b) != nil {
		return ""
	}
	return b.Name
}

func (p *gcsProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, err := readGCSRequest(r)
	if err != nil {
		panic(http.ErrAbortHandler) // it broke off: nobody waits for an answer
	}
	p.uploaded.Add(int64(len(q.body)))
	resp, err := p.answer(q)
	if err != nil {
		panic(http.ErrAbortHandler) // as when the server were gone
	}
	defer resp.Body.Close()
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// answer decides and forwards under the bucket's lock. The body of an answer
// is copied without it: who reads slowly keeps nobody from writing.
func (p *gcsProxy) answer(q *gcsRequest) (*http.Response, error) {
	b := p.bucket(q.bucket)
	if q.Method == http.MethodGet || q.Method == http.MethodHead {
		b.RLock()
		defer b.RUnlock()
	} else {
		b.Lock()
		defer b.Unlock()
	}
	switch {
	case q.action == "create" && b.there:
		return q.refuse(http.StatusConflict, "conflict", "Your previous request to create the named bucket succeeded and you already own it."), nil
	case q.action != "create" && !b.there:
		return q.refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist."), nil
	}
	if q.query.Has("upload_id") && q.Method != http.MethodDelete {
		return p.chunk(q)
	}
	if resp, err := p.check(q); resp != nil || err != nil {
		return resp, err
	}
	resp, err := p.forward(q)
	if err != nil {
		return nil, err
	}
	return p.after(q, b, resp)
}

// check returns an answer when the request must not reach the server.
func (p *gcsProxy) check(q *gcsRequest) (*http.Response, error) {
	switch {
	case q.action == "compose":
		return p.checkCompose(q)
	case q.action == "rewriteTo":
		source := q.query.Get("ifSourceGenerationMatch")
		p.demand(q, source)
		if resp, err := p.match(q, q.source, source, true); resp != nil || err != nil {
			return resp, err
		}
		return p.match(q, q.object, q.query.Get("ifGenerationMatch"), false)
	case q.Method == http.MethodDelete && q.object != "":
		p.demand(q, q.query.Get("ifGenerationMatch"))
		return p.match(q, q.object, q.query.Get("ifGenerationMatch"), true)
	case q.Method == http.MethodGet && q.object != "":
		want := q.query.Get("ifGenerationMatch")
		if q.xml {
			want = q.Header.Get("X-Goog-If-Generation-Match")
		}
		return p.match(q, q.object, want, true)
	case q.Method == http.MethodGet && q.query.Get("maxResults") == "":
		q.query.Set("maxResults", "1000")
	}
	return nil, nil
}

func (p *gcsProxy) checkCompose(q *gcsRequest) (*http.Response, error) {
	var compose struct {
		SourceObjects []struct {
			Name                string
			ObjectPreconditions struct {
				IfGenerationMatch json.Number
			}
		}
	}
	if err := json.Unmarshal(q.body, &compose); err != nil {
		return q.refuse(http.StatusBadRequest, "invalid", err.Error()), nil
	}
	for _, src := range compose.SourceObjects {
		want := src.ObjectPreconditions.IfGenerationMatch.String()
		p.demand(q, want)
		if resp, err := p.match(q, src.Name, want, true); resp != nil || err != nil {
			return resp, err
		}
	}
	want := q.query.Get("ifGenerationMatch")
	p.demand(q, want)
	return p.match(q, q.object, want, false)
}

// demand reports a request that names no generation where it could.
func (p *gcsProxy) demand(q *gcsRequest, generation string) {
	if generation == "" {
		p.report("%s %s has no precondition on a generation", q.Method, q.URL.RequestURI())
	}
}

// match returns an answer when object is not at the generation that is wanted,
// or is not there but must be.
func (p *gcsProxy) match(q *gcsRequest, object, want string, must bool) (*http.Response, error) {
	if want == "" && !must {
		return nil, nil
	}
	have, err := p.generation(q.bucket, object)
	switch {
	case err != nil:
		return nil, err
	case must && have == "0":
		return q.refuse(http.StatusNotFound, "NoSuchKey", "No such object: "+q.bucket+"/"+object), nil
	case want != "" && want != have:
		return q.refuse(http.StatusPreconditionFailed, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."), nil
	}
	return nil, nil
}

// generation returns the generation of an object, "0" when there is none.
func (p *gcsProxy) generation(bucket, object string) (string, error) {
	resp, err := p.client.Get("http://" + p.to + "/storage/v1/b/" + url.PathEscape(bucket) + "/o/" + url.PathEscape(object))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return "0", nil
	}
	var o struct{ Generation string }
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil {
		return "", err
	}
	return o.Generation, nil
}

// forward sends the request to the server, which answers only to its own name.
// URLs that it makes of that name lead back the way that the client came.
func (p *gcsProxy) forward(q *gcsRequest) (*http.Response, error) {
	u := *q.URL
	u.Scheme, u.Host, u.RawQuery = "http", p.to, q.query.Encode()
	req, err := http.NewRequest(q.Method, u.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	req.Header, req.Host = q.Header, p.host
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	if rest, ok := strings.CutPrefix(resp.Header.Get("Location"), "http://"+p.host); ok {
		resp.Header.Set("Location", "http://"+q.Host+rest)
	}
	return resp, nil
}

// after takes note of what was done, and mends what the server did otherwise
// than Google does.
func (p *gcsProxy) after(q *gcsRequest, b *gcsBucket, resp *http.Response) (*http.Response, error) {
	ok := resp.StatusCode < 300
	switch {
	case q.action == "create":
		b.there = ok
	case q.Method == http.MethodDelete && q.object == "" && !strings.HasPrefix(q.URL.Path, "/upload"):
		b.there = !ok
		if resp.StatusCode == http.StatusPreconditionFailed {
			resp.Body.Close()
			return q.refuse(http.StatusConflict, "conflict", "The bucket you tried to delete is not empty."), nil
		}
	case q.action == "rewriteTo" && ok && len(q.body) > len("{}\n") && !bytes.Contains(q.body, []byte(`"metadata"`)):
		return resp, p.forget(q)
	}
	return resp, nil
}

// forget removes the metadata that a rewrite took over from its source though
// the request describes the destination.
func (p *gcsProxy) forget(q *gcsRequest) error {
	where := "http://" + p.to + "/storage/v1/b/" + url.PathEscape(q.bucket) + "/o/" + url.PathEscape(q.object)
	req, err := http.NewRequest(http.MethodPut, where, strings.NewReader(`{"metadata":{}}`))
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// refuse answers as Google does: in JSON, or in XML.
func (q *gcsRequest) refuse(status int, reason, message string) *http.Response {
	type item struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
	type said struct {
		XMLName struct{} `json:"-" xml:"Error"`
		Status  int      `json:"code" xml:"-"`
		Code    string   `json:"-"`
		Message string   `json:"message"`
		Errors  []item   `json:"errors" xml:"-"`
	}
	e := said{Status: status, Code: reason, Message: message, Errors: []item{{reason, message}}}
	kind, marshal, content := "application/json", json.Marshal, any(map[string]any{"error": e})
	if q.xml {
		kind, marshal, content = "application/xml", xml.Marshal, e
	}
	body, err := marshal(content)
	if err != nil {
		panic(err) // plain structs: cannot be
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(body)),
		Header: http.Header{"Content-Type": {kind}, "Content-Length": {strconv.Itoa(len(body))}}}
}
