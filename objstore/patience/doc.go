// Package patience gives up an HTTP request whose server stops in the middle of
// it.
//
// A transport's own limits begin when the request is sent and end with the
// answer's headers: a server that stops reading, or that stops in the middle of
// its answer's body, would be waited for until the context ends. It promises
// that no request waits longer than its Limits for the server, and that the
// time which the caller's own side takes, to make a body or to read one, does
// not count. It does not bound a request that goes on, however slowly, nor try
// one again.
package patience
