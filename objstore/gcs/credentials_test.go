package gcs_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/objstore/gcs"
)

// lonely takes away all places where credentials are looked for.
func lonely(t *testing.T) {
	for _, name := range []string{"GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("APPDATA", t.TempDir())
	t.Setenv("GCE_METADATA_HOST", "")
}

// workload writes application default credentials that fetch their token from
// url, and makes them the default ones.
func workload(t *testing.T, url string) {
	dir := t.TempDir()
	subject := filepath.Join(dir, "subject")
	config := fmt.Sprintf(`{"type":"external_account","audience":"skyagent","subject_token_type":"urn:ietf:params:oauth:token-type:jwt",
		"token_url":%q,"credential_source":{"file":%q}}`, url, subject)
	for path, content := range map[string]string{subject: "I am", filepath.Join(dir, "adc.json"): config} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(dir, "adc.json"))
}

// The application default credentials sign what is sent, reads too.
func TestCredentials(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Skip("the system's certificates cannot be replaced here")
	}
	lonely(t)
	var unsigned []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"access_token":"secret","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":3600}`)
			return
		}
		if r.Header.Get("Authorization") != "Bearer secret" {
			unsigned = append(unsigned, r.Method+" "+r.URL.Path)
		}
		w.Header().Set("X-Goog-Generation", "1")
		fmt.Fprint(w, `{"generation":"1","size":"1"}`)
	}))
	defer server.Close()
	cert := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", cert) // read once, by the first who needs it: no other test here does
	workload(t, server.URL+"/token")
	s, err := gcs.New(t.Context(), gcs.Config{Bucket: "b", Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", "x")
	get(t, s, "k")
	if _, err := s.Head(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	if unsigned != nil {
		t.Errorf("sent without credentials: %q", unsigned)
	}
}

// What is wrong with credentials shows at once, in one line.
func TestNoCredentials(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(400)
		fmt.Fprint(w, "{\"error\":\"invalid_grant\",\n\"error_description\":\"Token has been expired or revoked.\"}")
	}))
	defer refusing.Close()
	for want, setup := range map[string]func(){
		"gs://b: no Google Cloud credentials found": func() {},
		"no such file": func() { t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/adc.json") },
		"revoked":      func() { workload(t, refusing.URL) },
	} {
		lonely(t)
		setup()
		_, err := gcs.New(t.Context(), gcs.Config{Bucket: "b"})
		var missing *gcs.CredentialsError
		if !errors.As(err, &missing) || !errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) ||
			!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", want, err)
		}
		if _, err = gcs.New(t.Context(), gcs.Config{Bucket: "b", Anonymous: true}); err != nil {
			t.Errorf("anonymous: %v", err)
		}
	}
}

// An emulator is asked without credentials, with or without a scheme.
func TestEmulator(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"generation":"1","size":"1"}`)
	}))
	defer server.Close()
	for _, host := range []string{server.URL, strings.TrimPrefix(server.URL, "http://")} {
		lonely(t)
		t.Setenv("STORAGE_EMULATOR_HOST", host)
		s, err := gcs.New(t.Context(), gcs.Config{Bucket: "b"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Head(t.Context(), "k"); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}
