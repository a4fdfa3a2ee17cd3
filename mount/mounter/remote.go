package mounter

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// rcDeadline bounds one call.
const rcDeadline = 30 * time.Second

// A remote is rclone's remote control.
type remote struct {
	base   url.URL
	client *http.Client
}

// newRemote reads unix:///PATH, HOST:PORT or a URL with user and password.
func newRemote(where string) (*remote, error) {
	if path, ok := strings.CutPrefix(where, "unix://"); ok {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
		return &remote{url.URL{Scheme: "http", Host: "rclone"}, &http.Client{Transport: transport}}, nil
	}
	if !strings.Contains(where, "://") {
		where = "http://" + where
	}
	base, err := url.Parse(where)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("the address of its remote control is not unix:///PATH, HOST:PORT or a URL")
	}
	return &remote{*base, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

// call posts a form to a command.
func (r *remote) call(ctx context.Context, command string, form url.Values) error {
	ctx, cancel := context.WithTimeout(ctx, rcDeadline)
	defer cancel()
	to := r.base
	to.User, to.Path = nil, "/"+command
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if user := r.base.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask rclone for %s: %w", command, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("hear rclone's answer to %s: %w", command, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("rclone answers %s to %s: %s", resp.Status, command, rcError(body))
	}
	return nil
}

// rcError returns what rclone says in an answer that is an error.
func rcError(body []byte) string {
	var said struct{ Error string }
	if json.Unmarshal(body, &said) == nil && said.Error != "" {
		return said.Error
	}
	return strings.TrimSpace(string(body[:min(len(body), 200)]))
}
