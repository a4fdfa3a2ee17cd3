package storage_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skyagent/skyagent/storage"
)

func TestChoose(t *testing.T) {
	aws := storage.Credential{Store: storage.S3, Where: "AWS_PROFILE"}
	gcp := storage.Credential{Store: storage.GCS, Where: "~/adc.json"}
	for _, tc := range []struct {
		cloud  string
		found  []storage.Credential
		store  storage.Store
		reason string
	}{
		{"", nil, storage.File, "no credentials of a cloud were found"},
		{"aws", nil, storage.File, "no credentials of a cloud were found"},
		{"", []storage.Credential{aws, gcp}, storage.S3, "there is AWS_PROFILE"},
		{"gcp", []storage.Credential{aws, gcp}, storage.GCS, "the task's cloud is gcp, and there is ~/adc.json"},
		{"azure", []storage.Credential{gcp}, storage.GCS, "there is ~/adc.json"},
	} {
		if store, reason := storage.Choose(tc.cloud, tc.found); store != tc.store || reason != tc.reason {
			t.Errorf("%q, %v: got %s, %q", tc.cloud, tc.found, store, reason)
		}
	}
}

// The store of a task's storage: what it says, else its URI, else its cloud and
// the credentials.
func TestStoreOfTask(t *testing.T) {
	b := newBench(t)
	b.opts.Credentials = []storage.Credential{{Store: storage.S3, Where: "AWS_PROFILE"}, {Store: storage.R2, Where: "R2_ACCESS_KEY_ID"}}
	for yaml, want := range map[string]storage.Mount{
		"file_mounts: {/m: {name: bkt}}":                                                        {Store: storage.S3, Reason: "there is AWS_PROFILE"},
		"file_mounts: {/m: {name: bkt, store: gcs}}":                                            {Store: storage.GCS},
		"file_mounts: {/m: {source: gs://xyz}}":                                                 {Store: storage.GCS, Reason: "the source is gs://"},
		"resources: {cloud: Cloudflare}\nfile_mounts: {/m: {name: bkt}}":                        {Store: storage.R2, Reason: "the task's cloud is cloudflare, and there is R2_ACCESS_KEY_ID"},
		"resources: {cloud: AWS, region: eu-west-1}\nfile_mounts: {/m: {name: bkt}}":            {Store: storage.S3, Region: "eu-west-1", Reason: "the task's cloud is aws, and there is AWS_PROFILE"},
		"resources: {infra: aws/us-west-2/us-west-2a}\nfile_mounts: {/m: {name: bkt}}":          {Store: storage.S3, Region: "us-west-2", Reason: "the task's cloud is aws, and there is AWS_PROFILE"},
		"resources: {infra: aws/*/us-west-2a}\nfile_mounts: {/m: {name: bkt}}":                  {Store: storage.S3, Reason: "the task's cloud is aws, and there is AWS_PROFILE"},
		"resources: {cloud: aws, region: eu-west-1}\nfile_mounts: {/m: {name: bkt, store: s3}}": {Store: storage.S3},
		"resources: {cloud: gcp, region: europe-west1}\nfile_mounts: {/m: {name: bkt}}":         {Store: storage.S3, Reason: "there is AWS_PROFILE"},
		"resources: {infra: cloudflare/auto}\nfile_mounts: {/m: {name: bkt}}":                   {Store: storage.R2, Region: "auto", Reason: "the task's cloud is cloudflare, and there is R2_ACCESS_KEY_ID"},
		"resources: {cloud: kubernetes, cpus: 2}\nfile_mounts: {/m: {name: bkt}}":               {Store: storage.S3, Reason: "there is AWS_PROFILE"},
	} {
		if m := b.one(t, yaml); m.Store != want.Store || m.Reason != want.Reason || m.Region != want.Region {
			t.Errorf("%s: got %s, %q, %q", yaml, m.Store, m.Region, m.Reason)
		}
	}
}

func TestFindCredentials(t *testing.T) {
	home := t.TempDir()
	env := map[string]string{}
	find := func() string {
		text := ""
		for _, c := range storage.FindCredentials(func(name string) (string, bool) { v, ok := env[name]; return v, ok }, home, storage.Disk{}) {
			text += string(c.Store) + " " + c.Where + "; "
		}
		return text
	}
	if got := find(); got != "" {
		t.Errorf("got %s", got)
	}
	for _, path := range []string{".aws/credentials", ".config/gcloud/application_default_credentials.json", ".cloudflare/r2.credentials"} {
		path = filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := find(), "s3 ~/.aws/credentials; gcs ~/.config/gcloud/application_default_credentials.json; r2 ~/.cloudflare/r2.credentials; "; got != want {
		t.Errorf("got %s", got)
	}
	env["AWS_ACCESS_KEY_ID"], env["R2_ACCESS_KEY_ID"], env["STORAGE_EMULATOR_HOST"] = "k", "k", ""
	if got, want := find(), "s3 AWS_ACCESS_KEY_ID; gcs ~/.config/gcloud/application_default_credentials.json; r2 R2_ACCESS_KEY_ID; "; got != want {
		t.Errorf("got %s", got)
	}
}
