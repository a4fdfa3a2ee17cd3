package servers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
)

// An upstream answers every request with as many bytes as it got, or 1,000.
type upstream struct {
	mu    sync.Mutex // guards what follows
	whole int        // requests whose body came to its end
	hosts []string
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	u.mu.Lock()
	u.hosts = append(u.hosts, r.Host)
	if err == nil {
		u.whole++
	}
	u.mu.Unlock()
	if len(b) == 0 {
		b = make([]byte, 1000)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b)
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.whole
}

func behind(t *testing.T) (*upstream, *servers.Proxy) {
	u := &upstream{}
	server := httptest.NewServer(u)
	t.Cleanup(server.Close)
	return u, servers.NewProxy(t, server.URL)
}

// ask sends one request on a connection of its own.
func ask(t *testing.T, method, url string, body []byte) (status, n int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, len(b), err
}

func TestProxyCounts(t *testing.T) {
	u, p := behind(t)
	for range 3 {
		if status, n, err := ask(t, http.MethodPut, p.URL+"/b/k?x=1", make([]byte, 70_000)); status != 200 || n != 70_000 || err != nil {
			t.Fatal(status, n, err)
		}
	}
	if _, _, err := ask(t, http.MethodGet, p.URL+"/b/k", nil); err != nil {
		t.Fatal(err)
	}
	if got, want := p.Traffic(http.MethodPut), (servers.Traffic{Requests: 3, Up: 210_000, Down: 210_000}); got != want {
		t.Errorf("PUT: %+v, want %+v", got, want)
	}
	if got, want := p.Traffic(""), (servers.Traffic{Requests: 4, Up: 210_000, Down: 211_000}); got != want {
		t.Errorf("all: %+v, want %+v", got, want)
	}
	if got := strings.Join(p.Take(), ","); got != "PUT /b/k?x=1,PUT /b/k?x=1,PUT /b/k?x=1,GET /b/k" || len(p.Take()) != 0 {
		t.Errorf("taken: %s", got)
	}
	if u.hosts[0] != strings.TrimPrefix(p.URL, "http://") {
		t.Errorf("the server sees the host %q: signatures would not hold", u.hosts[0])
	}
}

// A delayed request comes late, and whole.
func TestProxyDelays(t *testing.T) {
	_, p := behind(t)
	p.Delay(20 * time.Millisecond)
	began := time.Now()
	if status, n, err := ask(t, http.MethodPut, p.URL, make([]byte, 1000)); status != 200 || n != 1000 || err != nil {
		t.Fatal(status, n, err)
	}
	if took := time.Since(began); took < 20*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

// What every fault does to the client and to the server.
func TestProxyFaults(t *testing.T) {
	const size = 100_000
	for _, tc := range []struct {
		fault  servers.Fault
		status int // 0 is a broken connection
		least  int // bytes that reach the client
		most   int
		whole  int // requests that the server got whole
	}{
		{servers.Pass, 200, size, size, 1},
		{servers.InternalError, 500, 1, 500, 0},
		{servers.SlowDown, 503, 1, 500, 0},
		{servers.TooManyRequests, 429, 1, 500, 0},
		{servers.Conflict, 409, 1, 500, 0},
		{servers.BreakRequest, 0, 0, 0, 0},
		{servers.BreakAnswer, 200, 0, size / 2, 1},
		{servers.Truncate, 200, size / 2, size / 2, 1},
		{servers.Lose, 0, 0, 0, 1},
		{servers.Slow, 200, size, size, 1},
		{servers.Hang, 0, 0, 0, 0},
		{servers.Ignore, 0, 0, 0, 0},
		{servers.Stall, 200, size / 2, size / 2, 1},
	} {
		t.Run(tc.fault.String(), func(t *testing.T) {
			u, p := behind(t)
			p.Decide(func(*http.Request) servers.Fault { return tc.fault })
			status, n, err := ask(t, http.MethodPut, p.URL, make([]byte, size))
			broken := err != nil && !errors.Is(err, context.DeadlineExceeded)
			if late := tc.fault == servers.Hang || tc.fault == servers.Ignore || tc.fault == servers.Stall; late == broken && err != nil {
				t.Errorf("got %v", err)
			}
			if (tc.fault == servers.BreakAnswer || tc.status >= 400) && status == 0 && broken {
				status, n = tc.status, max(n, tc.least) // a reset may overtake the answer
			}
			if status != tc.status || n < tc.least || n > tc.most {
				t.Errorf("got %d and %d bytes, %v", status, n, err)
			}
			if whole := u.count(); whole != tc.whole {
				t.Errorf("the server got %d whole requests, want %d", whole, tc.whole)
			}
		})
	}
}

// The same seed decides the same, in whatever order requests come.
func TestRandomFaults(t *testing.T) {
	decide := func(seed uint64, order []string) map[string]servers.Fault {
		f, got := servers.Random(seed, 3, servers.Passing...), map[string]servers.Fault{}
		for i, path := range order {
			got[path+strconv.Itoa(strings.Count(strings.Join(order[:i], ""), path))] = f(httptest.NewRequest(http.MethodGet, path, nil))
		}
		return got
	}
	order := strings.Split(strings.Repeat("/a /b /c /d ", 50), " ")[:200]
	turned := make([]string, 0, 200)
	for _, path := range []string{"/d", "/b", "/a", "/c"} {
		turned = append(turned, strings.Split(strings.Repeat(path+" ", 50), " ")[:50]...)
	}
	one, two, other := decide(7, order), decide(7, turned), decide(8, order)
	same, faults := 0, 0
	for what, fault := range one {
		if two[what] != fault {
			t.Fatalf("%s: %v, and in another order %v", what, fault, two[what])
		}
		if other[what] == fault {
			same++
		}
		if fault != servers.Pass {
			faults++
		}
	}
	if len(one) != 200 || same == 200 || faults < 30 || faults > 110 {
		t.Errorf("%d decisions, %d faults, %d as of another seed", len(one), faults, same)
	}
}
