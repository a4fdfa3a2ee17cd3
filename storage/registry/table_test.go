package registry_test

import (
	"testing"
	"time"

	"github.com/skyagent/skyagent/storage"
	"github.com/skyagent/skyagent/storage/registry"
)

var now = time.Date(2023, 4, 2, 19, 42, 24, 0, time.UTC)

// The document's own session, word for word.
func TestTable(t *testing.T) {
	records := []registry.Record{{Name: "sky-dataset-romil", Store: storage.S3, Created: now.Add(-3 * time.Minute),
		Command: "sky launch -c demo examples/storage_demo.yaml", State: registry.Ready}}
	const want = `NAME               CREATED     STORE  COMMAND                                        STATUS
sky-dataset-romil  3 mins ago  S3     sky launch -c demo examples/storage_demo.yaml  READY
`
	if got := registry.Table(records, now); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTableOfMany(t *testing.T) {
	records := []registry.Record{
		{Name: "a", Store: storage.File, Created: now.Add(-70 * time.Minute), Command: "skyagent watch ~/a", State: registry.UploadFailed},
		{Name: "bücher", Store: storage.GCS, Created: now, Command: "skyagent watch 'x\ny'", State: registry.Syncing},
		{Name: "c", Store: storage.R2, Created: now.Add(-48 * time.Hour), Command: "", State: registry.Deleting},
	}
	const want = `NAME    CREATED         STORE  COMMAND               STATUS
a       1 hr ago        FILE   skyagent watch ~/a    UPLOAD_FAILED
bücher  a few secs ago  GCS    skyagent watch 'x y'  SYNCING
c       2 days ago      R2                           DELETING
`
	if got := registry.Table(records, now); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := registry.Table(nil, now); got != "No existing storage.\n" {
		t.Errorf("got %q", got)
	}
}

func TestWide(t *testing.T) {
	records := []registry.Record{{Name: "a", Store: storage.S3, Created: now, Command: "c", State: registry.Ready}}
	const want = `NAME  CREATED         STORE  COMMAND  STATUS  GENERATION  SIZE     WORKERS  LAG
a     a few secs ago  S3     c        READY   12          1.5 GiB  3        0
`
	if got := registry.Wide(records, []registry.More{{"12", "1.5 GiB", "3", "0"}}, now); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAgo(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Hour:       "a few secs ago",
		0:                "a few secs ago",
		10 * time.Second: "a few secs ago",
		11 * time.Second: "11 secs ago",
		59 * time.Second: "59 secs ago",
		time.Minute:      "1 min ago",
		3 * time.Minute:  "3 mins ago",
		59 * time.Minute: "59 mins ago",
		time.Hour:        "1 hr ago",
		21 * time.Hour:   "21 hrs ago",
		22 * time.Hour:   "1 day ago",
		46 * time.Hour:   "2 days ago",
		6 * day:          "6 days ago",
		7 * day:          "1 week ago",
		11 * day:         "2 weeks ago",
		27 * day:         "1 month ago",
		60 * day:         "2 months ago",
		350 * day:        "1 year ago",
		3 * 365 * day:    "3 years ago",
	} {
		if got := registry.Ago(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
