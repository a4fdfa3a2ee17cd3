package servers

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"sync"
)

// A Fault is what a Proxy does to one request. The zero Fault lets it pass.
type Fault int

// The first six answer in the server's place, and it never hears of the
// request. A fault of a body that is empty is a reset instead, of a request
// before the server hears of it, of an answer after.
const (
	Pass            Fault = iota
	InternalError         // 500
	Unavailable           // 503 ServiceUnavailable
	SlowDown              // 503 SlowDown
	TooManyRequests       // 429
	Conflict              // 409 ConditionalRequestConflict
	Forbid                // 403 AccessDenied
	BreakRequest          // the server gets half of the request's body, and the client a reset
	BreakAnswer           // the client gets about half of the answer's body, and a reset
	Truncate              // the client gets half of the answer's body, and a proper end of the connection
	Lose                  // the server does as it is asked, and the client gets a reset
	Slow                  // both bodies come in pieces
	Hang                  // the request's body is taken, and no answer comes until the client leaves
	Ignore                // nothing is read and no answer comes, until the test ends
	Stall                 // half of the answer's body comes, and no more until the client leaves
)

// Passing are the faults that a client can get over by trying again and that
// take no time.
var Passing = []Fault{InternalError, Unavailable, SlowDown, TooManyRequests, Conflict, BreakRequest, BreakAnswer, Truncate, Lose, Slow}

var faultNames = [...]string{"Pass", "InternalError", "Unavailable", "SlowDown", "TooManyRequests", "Conflict", "Forbid",
	"BreakRequest", "BreakAnswer", "Truncate", "Lose", "Slow", "Hang", "Ignore", "Stall"}

func (f Fault) String() string { return faultNames[f] }

// A said is an answer that the proxy gives itself.
type said struct {
	status int
	code   string
	after  string // Retry-After; "" is none
}

var answers = map[Fault]said{
	InternalError:   {status: 500, code: "InternalError"},
	Unavailable:     {status: 503, code: "ServiceUnavailable"},
	SlowDown:        {status: 503, code: "SlowDown"},
	TooManyRequests: {status: 429, code: "TooManyRequests", after: "0"},
	Conflict:        {status: 409, code: "ConditionalRequestConflict"},
	Forbid:          {status: 403, code: "AccessDenied"},
}

func (a said) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/xml")
	if a.after != "" {
		w.Header().Set("Retry-After", a.after)
	}
	w.WriteHeader(a.status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>the proxy says so</Message></Error>", a.code)
}

// Once returns a decider that does fault to the nth request it hears of, from
// 0, and lets all others pass; and whether that request came.
func Once(n int, fault Fault) (decide func(*http.Request) Fault, came func() bool) {
	var mu sync.Mutex
	heard := 0
	decide = func(*http.Request) Fault {
		mu.Lock()
		defer mu.Unlock()
		heard++
		if heard == n+1 {
			return fault
		}
		return Pass
	}
	came = func() bool {
		mu.Lock()
		defer mu.Unlock()
		return heard > n
	}
	return decide, came
}

// Random returns a decider that does one of faults to about one of every
// requests. What it decides depends on seed, the method, the path and how often
// they came, and not on the order in which the requests of many goroutines do.
func Random(seed uint64, every int, faults ...Fault) func(*http.Request) Fault {
	var mu sync.Mutex
	times := map[string]int{}
	return func(req *http.Request) Fault {
		what := req.Method + " " + req.URL.Path
		mu.Lock()
		times[what]++
		n := times[what]
		mu.Unlock()
		h := fnv.New64a()
		fmt.Fprint(h, seed, " ", what, " ", strconv.Itoa(n))
		x := mix(h.Sum64())
		if x%uint64(every) != 0 {
			return Pass
		}
		return faults[x/uint64(every)%uint64(len(faults))]
	}
}

// mix spreads what FNV leaves in the high bits (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
