package bus

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Options say which bus to use and how to be let in. The zero Options name none.
type Options struct {
	// URLs of an outside NATS. When empty, the embedded bus whose address
	// stands in AddressDir is used, whoever owns it.
	URLs       []string
	AddressDir string

	// Ways to be let in; as natscli means them. Files are paths.
	Creds, NKey               string // files: credentials; an nkey's seed
	User, Password, Token     string
	JWT, Seed                 string // the values themselves
	CA, Cert, CertKey         string // files: authorities; client certificate and its key
	TLSFirst                  bool   // the server wants TLS before it says a word
	Domain                    string // JetStream domain
	InboxPrefix               string // "" is the library's; see InboxPrefix
	PingInterval, DialTimeout time.Duration

	Name string       // shown by the server's tools
	Log  *slog.Logger // nil discards
}

// OptionsFromEnv reads natscli's variables: NATS_CONTEXT first, then NATS_URL,
// NATS_CREDS, NATS_NKEY, NATS_USER, NATS_PASSWORD, NATS_TOKEN, NATS_JWT,
// NATS_SEED, NATS_CA, NATS_CERT, NATS_KEY and NATS_TIMEOUT over it.
func OptionsFromEnv() (Options, error) {
	var o Options
	if name := os.Getenv("NATS_CONTEXT"); name != "" {
		c, err := readContext(name)
		if err != nil {
			return Options{}, fmt.Errorf("NATS_CONTEXT: %w", err)
		}
		o = c.options()
	}
	if os.Getenv("NATS_SOCKS_PROXY") != "" {
		return Options{}, errors.New("NATS_SOCKS_PROXY: a proxy is not supported")
	}
	if v := os.Getenv("NATS_TIMEOUT"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			return Options{}, fmt.Errorf("NATS_TIMEOUT: %w", err)
		}
		o.DialTimeout = d
	}
	for name, field := range o.variables() {
		*field = cmp.Or(os.Getenv(name), *field)
	}
	if v := os.Getenv("NATS_URL"); v != "" {
		o.URLs = SplitURLs(v)
	}
	return o, nil
}

func (o *Options) variables() map[string]*string {
	return map[string]*string{
		"NATS_CREDS": &o.Creds, "NATS_NKEY": &o.NKey,
		"NATS_USER": &o.User, "NATS_PASSWORD": &o.Password, "NATS_TOKEN": &o.Token,
		"NATS_JWT": &o.JWT, "NATS_SEED": &o.Seed,
		"NATS_CA": &o.CA, "NATS_CERT": &o.Cert, "NATS_KEY": &o.CertKey,
	}
}

// SplitURLs splits a list at its commas.
func SplitURLs(list string) (urls []string) {
	for u := range strings.SplitSeq(list, ",") {
		if u = strings.TrimSpace(u); u != "" {
			urls = append(urls, u)
		}
	}
	return urls
}

// A natsContext is a connection that natscli keeps by name. Fields that we do
// not know are skipped.
type natsContext struct {
	URL      string `json:"url"`
	Token    string `json:"token"`
	User     string `json:"user"`
	Password string `json:"password"`
	Creds    string `json:"creds"`
	NKey     string `json:"nkey"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	CA       string `json:"ca"`
	JWT      string `json:"user_jwt"`
	Seed     string `json:"user_seed"`
	Domain   string `json:"jetstream_domain"`
	Inbox    string `json:"inbox_prefix"`
	TLSFirst bool   `json:"tls_first"`
	Socks    string `json:"socks_proxy"`
	NSC      string `json:"nsc"`
}

func readContext(name string) (c natsContext, err error) {
	if filepath.Base(name) != name {
		return c, fmt.Errorf("context name %q may not be a path", name)
	}
	dir, err := contextDir()
	if err != nil {
		return c, err
	}
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil {
		return c, fmt.Errorf("context %q: %w", name, err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("context %q: %w", name, err)
	}
	if c.Socks != "" || c.NSC != "" {
		return c, fmt.Errorf("context %q: socks_proxy and nsc are not supported", name)
	}
	return c, nil
}

// contextDir is natscli's, on every system.
func contextDir() (string, error) {
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "nats", "context"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".config", "nats", "context"), err
}

func (c natsContext) options() Options {
	return Options{
		URLs: SplitURLs(c.URL), Token: c.Token, User: c.User, Password: c.Password,
		Creds: expandHome(c.Creds), NKey: expandHome(c.NKey), JWT: c.JWT, Seed: c.Seed,
		Cert: expandHome(c.Cert), CertKey: expandHome(c.Key), CA: expandHome(c.CA),
		Domain: c.Domain, InboxPrefix: c.Inbox, TLSFirst: c.TLSFirst,
	}
}

func expandHome(file string) string {
	home, err := os.UserHomeDir()
	if rest, ok := strings.CutPrefix(file, "~/"); ok && err == nil {
		return filepath.Join(home, rest)
	}
	return file
}

// credentials returns the options that let a client in. Files that cannot be
// read are found here, before anything connects.
func (o Options) credentials() (opts []nats.Option, err error) {
	switch {
	case o.Creds != "":
		if _, err := os.Stat(o.Creds); err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		opts = append(opts, nats.UserCredentials(o.Creds))
	case o.NKey != "":
		opt, err := nats.NkeyOptionFromSeed(o.NKey)
		if err != nil {
			return nil, fmt.Errorf("nkey %s: %w", o.NKey, err)
		}
		opts = append(opts, opt)
	case o.JWT != "":
		opts = append(opts, nats.UserJWTAndSeed(o.JWT, o.Seed))
	case o.Token != "":
		opts = append(opts, nats.Token(o.Token))
	case o.User != "" && o.Password == "": // natscli takes a lone user for a token
		opts = append(opts, nats.Token(o.User))
	case o.User != "":
		opts = append(opts, nats.UserInfo(o.User, o.Password))
	}
	return append(opts, o.tls()...), nil
}

func (o Options) tls() (opts []nats.Option) {
	if o.CA != "" {
		opts = append(opts, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		opts = append(opts, nats.ClientCert(o.Cert, o.CertKey))
	}
	if o.TLSFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	return opts
}
