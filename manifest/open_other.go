//go:build !unix

package manifest

const openNoWait = 0
