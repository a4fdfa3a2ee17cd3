package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/skyagent/skyagent/objstore/pace"
)

// limitFlags adds the flags that hold requests to the store back. Their names
// are rclone's.
func limitFlags(flags *pflag.FlagSet, l *pace.Limits) {
	flags.IntVar(&l.Transfers, "transfers", pace.DefaultTransfers, "requests to the store at a time, at most `N`; how many pay off is found out")
	flags.Float64Var(&l.Requests, "tpslimit", 0, "requests to the store a second, at most `N`")
	flags.Var((*bandwidth)(l), "bwlimit", "`RATE` of bytes a second to and from the store: 10M, or 1M:10M for upload and download apart")
}

// checkLimits refuses what would silently be no limit.
func checkLimits(l pace.Limits) error {
	switch {
	case l.Transfers < 1:
		return usagef("--transfers %d: there must be one at least", l.Transfers)
	case l.Requests < 0:
		return usagef("--tpslimit %g is less than nothing; 0 is no limit", l.Requests)
	}
	return nil
}

// A bandwidth is the value of --bwlimit.
type bandwidth pace.Limits

// Type implements pflag.Value.
func (b *bandwidth) Type() string { return "RATE" }

// String implements pflag.Value.
func (b *bandwidth) String() string {
	switch {
	case b.Upload == b.Download && b.Upload == 0:
		return ""
	case b.Upload == b.Download:
		return strconv.FormatInt(b.Upload, 10)
	}
	return fmt.Sprintf("%d:%d", b.Upload, b.Download)
}

// Set implements pflag.Value.
func (b *bandwidth) Set(s string) (err error) {
	up, down, apart := strings.Cut(s, ":")
	if !apart {
		down = up
	}
	if b.Upload, err = rateOf(up); err != nil {
		return err
	}
	b.Download, err = rateOf(down)
	return err
}

// rateOf reads bytes a second: a number with B, K, M, G or T behind it, powers
// of 1,024 and KiB without any, as rclone has it; off is no limit.
func rateOf(s string) (int64, error) {
	if s == "off" || s == "0" || s == "" {
		return 0, nil
	}
	const units = "BKMGT"
	number, exp := s, 1
	if i := strings.IndexByte(units, s[len(s)-1]&^0x20); i >= 0 {
		number, exp = s[:len(s)-1], i
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n <= 0 || n > 1<<20 {
		return 0, fmt.Errorf("%q is no rate; write 512K, 10M, 1.5G or off", s)
	}
	return max(1, int64(n*float64(int64(1)<<(10*exp)))), nil
}
