package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// fakeS3 starts a server that answers every request in the same way, and leads
// AWS_ENDPOINT_URL_S3 to it: fakes3 KIND. A "plain" one is taken for TLS, a
// "strict" one for plain HTTP.
func fakeS3(ts *testscript.TestScript, _ bool, args []string) {
	kind := args[0]
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		answers[kind](w)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	switch kind {
	case "tls", "strict":
		server.StartTLS()
	default:
		server.Start()
	}
	ts.Defer(server.Close)
	endpoint := server.URL
	switch kind {
	case "plain":
		endpoint = strings.Replace(endpoint, "http:", "https:", 1)
	case "strict":
		endpoint = strings.Replace(endpoint, "https:", "http:", 1)
	}
	ts.Setenv("AWS_ENDPOINT_URL_S3", endpoint)
}

var answers = map[string]func(http.ResponseWriter){
	"strict": func(w http.ResponseWriter) { refuse(w, http.StatusNotFound, "NoSuchKey") },
	"tls":    func(w http.ResponseWriter) { refuse(w, http.StatusNotFound, "NoSuchKey") },
	"plain":  func(w http.ResponseWriter) { refuse(w, http.StatusNotFound, "NoSuchKey") },
	"secret": func(w http.ResponseWriter) { refuse(w, http.StatusForbidden, "SignatureDoesNotMatch") },
	"bucket": func(w http.ResponseWriter) { refuse(w, http.StatusNotFound, "NoSuchBucket") },
	"clock": func(w http.ResponseWriter) {
		w.Header().Set("Date", time.Now().Add(-20*time.Minute).UTC().Format(http.TimeFormat))
		refuse(w, http.StatusForbidden, "RequestTimeTooSkewed")
	},
	"region": func(w http.ResponseWriter) {
		w.Header().Set("X-Amz-Bucket-Region", "eu-west-1")
		refuse(w, http.StatusMovedPermanently, "PermanentRedirect")
	},
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
}
