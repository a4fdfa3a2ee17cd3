package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

// Where SkyPilot keeps what it needs for R2, below the home directory.
const (
	r2CredentialsFile = ".cloudflare/r2.credentials" // like the AWS tools' own, profile [r2]
	r2AccountFile     = ".cloudflare/accountid"      // its first line
)

// newR2 returns a client for R2. Nothing of the AWS tools' environment and
// files has a say in it: data for one must not go to the other.
func (c Config) newR2(ctx context.Context) (*s3.Client, error) {
	if err := c.check(r2Quirks); err != nil {
		return nil, err
	}
	endpoint, err := c.r2Endpoint()
	if err != nil {
		return nil, &CredentialsError{Bucket: c.where(), Err: err}
	}
	provider := c.Credentials
	if provider == nil {
		if provider, err = c.r2Credentials(ctx); err != nil {
			return nil, &CredentialsError{Bucket: c.where(), Err: err}
		}
	}
	if err := c.findCredentials(ctx, provider); err != nil {
		return nil, err
	}
	client, err := trusting(c.httpClient(), os.Getenv("AWS_CA_BUNDLE"))
	if err != nil {
		return nil, fmt.Errorf("%s: AWS_CA_BUNDLE: %w", c.where().URL(), err)
	}
	c.Endpoint = endpoint
	return s3.New(s3.Options{
		Credentials: aws.NewCredentialsCache(provider), HTTPClient: client,
		Logger: logging.Nop{}, Retryer: aws.NopRetryer{},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}, c.options), nil
}

// r2Endpoint returns the URL of the account's buckets: what the caller says,
// then the environment, then the file.
func (c Config) r2Endpoint() (string, error) {
	if c.Endpoint != "" {
		return c.Endpoint, nil
	}
	if c.Account == "" && c.Jurisdiction == "" {
		if endpoint := firstEnv("R2_ENDPOINT_URL", "R2_ENDPOINT"); endpoint != "" {
			return endpoint, nil
		}
	}
	account, err := c.r2Account()
	if err != nil {
		return "", err
	}
	host := account
	switch c.Jurisdiction {
	case "", "default":
	case "eu", "fedramp":
		host += "." + c.Jurisdiction
	default:
		return "", fmt.Errorf("jurisdiction is %q, not eu or fedramp", c.Jurisdiction)
	}
	return "https://" + host + ".r2.cloudflarestorage.com", nil
}

// r2Account returns the account's id, which becomes part of a host's name.
func (c Config) r2Account() (string, error) {
	id := c.Account
	if id == "" {
		id = firstEnv("R2_ACCOUNT_ID", "CLOUDFLARE_ACCOUNT_ID")
	}
	if id == "" {
		line, err := firstLine(r2AccountFile)
		if err != nil {
			return "", fmt.Errorf("no account id: %w", err)
		}
		id = line
	}
	if id == "" || strings.Trim(strings.ToLower(id), "0123456789abcdefghijklmnopqrstuvwxyz-") != "" {
		return "", fmt.Errorf("account id %q is none", id)
	}
	return id, nil
}

// r2Credentials returns those of the environment, or those of the file where
// the caller names a profile or the environment has none.
func (c Config) r2Credentials(ctx context.Context) (aws.CredentialsProvider, error) {
	id, secret := os.Getenv("R2_ACCESS_KEY_ID"), os.Getenv("R2_SECRET_ACCESS_KEY")
	if c.Profile == "" && id != "" && secret != "" {
		return credentials.NewStaticCredentialsProvider(id, secret, ""), nil
	}
	if c.Profile == "" {
		return r2Profile(ctx, "r2")
	}
	return r2Profile(ctx, c.Profile)
}

// r2Profile returns the credentials of a profile of the file.
func r2Profile(ctx context.Context, profile string) (aws.CredentialsProvider, error) {
	path, err := homeFile(r2CredentialsFile)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, missing(err, r2CredentialsFile)
	}
	found, err := config.LoadSharedConfigProfile(ctx, profile, func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles, o.Logger = []string{path}, []string{}, logging.Nop{}
	})
	var none config.SharedConfigProfileNotExistError
	switch {
	case errors.As(err, &none):
		return nil, fmt.Errorf("no profile [%s] in ~/%s", profile, r2CredentialsFile)
	case err != nil:
		return nil, fmt.Errorf("~/%s: %w", r2CredentialsFile, err)
	case found.Credentials.HasKeys():
		return credentials.StaticCredentialsProvider{Value: found.Credentials}, nil
	case found.CredentialProcess != "":
		return processcreds.NewProvider(found.CredentialProcess), nil
	}
	return nil, fmt.Errorf("no keys in profile [%s] of ~/%s", profile, r2CredentialsFile)
}

// trusting adds the authorities of a file to those that client trusts, as the
// SDK does for Amazon's.
func trusting(client *awshttp.BuildableClient, bundle string) (*awshttp.BuildableClient, error) {
	if bundle == "" {
		return client, nil
	}
	pem, err := os.ReadFile(bundle)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificates", bundle)
	}
	return client.WithTransportOptions(func(t *http.Transport) { t.TLSClientConfig.RootCAs = roots }), nil
}

func firstEnv(names ...string) string {
	for _, name := range names {
		if v := strings.TrimSpace(os.Getenv(name)); v != "" {
			return v
		}
	}
	return ""
}

func homeFile(name string) (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, filepath.FromSlash(name)), nil
}

// firstLine returns the first line of a file below the home directory.
func firstLine(name string) (string, error) {
	path, err := homeFile(name)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", missing(err, name)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line), nil
}

// missing names a file as its owner knows it.
func missing(err error, name string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no ~/%s", name)
	}
	return fmt.Errorf("~/%s: %w", name, errors.Unwrap(err))
}
