package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/skyagent/skyagent/storage"
)

// ErrDeleting says that a storage is being deleted.
var ErrDeleting = errors.New("the storage is being deleted")

// version is the schema's. A newer one is not ours to touch.
const version = 1

const schema = `
CREATE TABLE storage (
	name       TEXT PRIMARY KEY,
	store      TEXT NOT NULL,
	url        TEXT NOT NULL,
	created    INTEGER NOT NULL, -- microseconds since 1970
	used       INTEGER NOT NULL,
	command    TEXT NOT NULL,
	state      TEXT NOT NULL,
	persistent INTEGER NOT NULL
) STRICT;
PRAGMA user_version = 1;`

// A Registry is the database of one machine's storages. It is safe for many
// goroutines and processes.
type Registry struct {
	db   *sql.DB
	path string
}

// Open opens the database at path and makes it when it is not there.
func Open(ctx context.Context, path string) (*Registry, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	// A transaction takes the lock when it begins: one that reads first and
	// writes then could not wait for it. The journal is SQLite's default one,
	// which leaves a single file and, with synchronous, survives a power cut.
	query := url.Values{"_pragma": {"busy_timeout(30000)", "synchronous(FULL)"}, "_txlock": {"immediate"}}
	at := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", at.String())
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", path, err)
	}
	db.SetMaxOpenConns(1) // SQLite has one writer anyhow
	r := &Registry{db, path}
	if err := r.prepare(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return r, nil
}

// prepare makes the table, unless another process did.
func (r *Registry) prepare(ctx context.Context) error {
	return r.change(ctx, func(tx *sql.Tx) error {
		var has int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&has); err != nil {
			return err
		}
		switch {
		case has == version:
			return nil
		case has > version:
			return fmt.Errorf("format %d is of a newer skyagent; this one knows %d", has, version)
		}
		_, err := tx.ExecContext(ctx, schema)
		return err
	})
}

// Close ends the use of the database.
func (r *Registry) Close() error { return r.db.Close() }

// change runs f in a transaction.
func (r *Registry) change(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("registry %s: %w", r.path, err)
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := f(tx); err != nil {
		return fmt.Errorf("registry %s: %w", r.path, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("registry %s: %w", r.path, err)
	}
	return nil
}

// Add records a storage. One of its name that is there is fs.ErrExist, and
// ErrDeleting too while it is being deleted.
func (r *Registry) Add(ctx context.Context, rec Record) error {
	if !slices.Contains(States, rec.State) {
		return fmt.Errorf("storage %s: no state %q", rec.Name, rec.State)
	}
	return r.change(ctx, func(tx *sql.Tx) error {
		switch old, err := get(ctx, tx, rec.Name); {
		case err == nil && old.State == Deleting:
			return fmt.Errorf("storage %s: %w: %w", rec.Name, fs.ErrExist, ErrDeleting)
		case err == nil:
			return fmt.Errorf("storage %s: %w", rec.Name, fs.ErrExist)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO storage (name, store, url, created, used, command, state, persistent) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			rec.Name, string(rec.Store), rec.URL, rec.Created.UnixMicro(), rec.Used.UnixMicro(), rec.Command, string(rec.State), rec.Persistent)
		return err
	})
}

// Get returns the record of a storage; none is fs.ErrNotExist.
func (r *Registry) Get(ctx context.Context, name string) (Record, error) {
	rec, err := get(ctx, r.db, name)
	if err != nil {
		return Record{}, fmt.Errorf("registry %s: %w", r.path, err)
	}
	return rec, nil
}

// SetState changes a storage's state. One that is being deleted stays so, and
// is ErrDeleting; none is fs.ErrNotExist.
func (r *Registry) SetState(ctx context.Context, name string, to State) error {
	if !slices.Contains(States, to) {
		return fmt.Errorf("storage %s: no state %q", name, to)
	}
	return r.update(ctx, name, func(rec *Record) error {
		if rec.State == Deleting && to != Deleting {
			return ErrDeleting
		}
		rec.State = to
		return nil
	})
}

// Use notes the command that works with a storage now, and whether it is to
// stay after it.
func (r *Registry) Use(ctx context.Context, name, command string, persistent bool, now time.Time) error {
	return r.update(ctx, name, func(rec *Record) error {
		if rec.State == Deleting {
			return ErrDeleting
		}
		rec.Command, rec.Persistent, rec.Used = command, persistent, now
		return nil
	})
}

func (r *Registry) update(ctx context.Context, name string, f func(*Record) error) error {
	return r.change(ctx, func(tx *sql.Tx) error {
		rec, err := get(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := f(&rec); err != nil {
			return fmt.Errorf("storage %s: %w", name, err)
		}
		_, err = tx.ExecContext(ctx, "UPDATE storage SET state = ?, command = ?, persistent = ?, used = ? WHERE name = ?",
			string(rec.State), rec.Command, rec.Persistent, rec.Used.UnixMicro(), name)
		return err
	})
}

// Remove forgets a storage: the last step of its deletion. None is
// fs.ErrNotExist.
func (r *Registry) Remove(ctx context.Context, name string) error {
	return r.change(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM storage WHERE name = ?", name)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, noStorage(name))
		}
		return nil
	})
}

const columns = "name, store, url, created, used, command, state, persistent"

// List returns all storages, the oldest first.
func (r *Registry) List(ctx context.Context) ([]Record, error) {
	rows, err := r.db.QueryContext(ctx, "SELECT "+columns+" FROM storage ORDER BY created, name")
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", r.path, err)
	}
	defer rows.Close()
	var all []Record
	for rows.Next() {
		rec, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("registry %s: %w", r.path, err)
		}
		all = append(all, rec)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("registry %s: %w", r.path, err)
	}
	return all, nil
}

// A querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func get(ctx context.Context, q querier, name string) (Record, error) {
	rec, err := scan(q.QueryRowContext(ctx, "SELECT "+columns+" FROM storage WHERE name = ?", name))
	if errors.Is(err, sql.ErrNoRows) {
		return Record{}, noStorage(name)
	}
	return rec, err
}

func noStorage(name string) error { return fmt.Errorf("storage %s: %w", name, fs.ErrNotExist) }

func scan(row interface{ Scan(...any) error }) (Record, error) {
	var (
		rec           Record
		store, state  string
		created, used int64
	)
	err := row.Scan(&rec.Name, &store, &rec.URL, &created, &used, &rec.Command, &state, &rec.Persistent)
	rec.Store, rec.State = storage.Store(store), State(state)
	rec.Created, rec.Used = time.UnixMicro(created), time.UnixMicro(used)
	return rec, err
}
