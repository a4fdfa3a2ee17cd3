package main

import (
	"fmt"
	"strconv"
)

// An umask is a flag of permission bits in octal.
type umask uint32

// Type implements pflag.Value.
func (u *umask) Type() string { return "OCTAL" }

// String implements pflag.Value.
func (u *umask) String() string { return fmt.Sprintf("%04o", uint32(*u)) }

// Set implements pflag.Value.
func (u *umask) Set(s string) error {
	v, err := strconv.ParseUint(s, 8, 32)
	if err != nil || v > 0o777 {
		return fmt.Errorf("%q is no umask; write 022 or 077", s)
	}
	*u = umask(v)
	return nil
}

// A byteSize is a flag of a number of bytes: 512M, 10G.
type byteSize int64

// Type implements pflag.Value.
func (b *byteSize) Type() string { return "SIZE" }

// String implements pflag.Value.
func (b *byteSize) String() string { return bytesOf(int64(*b)) }

// Set implements pflag.Value.
func (b *byteSize) Set(s string) error {
	n, err := rateOf(s)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is no size; write 512M or 10G", s)
	}
	*b = byteSize(n)
	return nil
}
