package storage

import (
	"io/fs"
	"path/filepath"
)

// A Credential says that there are credentials for a store.
type Credential struct {
	Store Store
	Where string // for people: "AWS_PROFILE", "~/.aws/credentials"
}

// places are where credentials stand, in the order in which stores are taken.
var places = []struct {
	store Store
	env   []string
	files []string // below the home directory
}{
	{S3, []string{"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SHARED_CREDENTIALS_FILE"}, []string{".aws/credentials", ".aws/config"}},
	{GCS, []string{"GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"}, []string{".config/gcloud/application_default_credentials.json"}},
	{R2, []string{"R2_ACCESS_KEY_ID"}, []string{".cloudflare/r2.credentials"}},
}

// FindCredentials looks where credentials use to be, at most one place a
// store. What a machine is given by its cloud is not asked for. An empty
// variable is none.
func FindCredentials(env func(string) (string, bool), home string, files Files) []Credential {
	var found []Credential
	for _, p := range places {
		if where := findOne(env, home, files, p.env, p.files); where != "" {
			found = append(found, Credential{p.store, where})
		}
	}
	return found
}

func findOne(env func(string) (string, bool), home string, files Files, names, paths []string) string {
	for _, name := range names {
		if v, _ := env(name); v != "" {
			return name
		}
	}
	for _, path := range paths {
		if fi, err := files.Lstat(filepath.Join(home, filepath.FromSlash(path))); err == nil && fi.Mode()&fs.ModeDir == 0 {
			return "~/" + path
		}
	}
	return ""
}

// cloudStores are the stores of the clouds that a task may name under
// resources.
var cloudStores = map[string]Store{"aws": S3, "gcp": GCS, "cloudflare": R2}

// Choose returns the store of a storage that does not name one and has no URI,
// and why. cloud is the task's, "" when it has none.
func Choose(cloud string, found []Credential) (Store, string) {
	for _, c := range found {
		if c.Store == cloudStores[cloud] {
			return c.Store, "the task's cloud is " + cloud + ", and there is " + c.Where
		}
	}
	if len(found) > 0 {
		return found[0].Store, "there is " + found[0].Where
	}
	return File, "no credentials of a cloud were found"
}
