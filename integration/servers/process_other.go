//go:build !linux

package servers

import "syscall"

// dieWithParent needs Linux; elsewhere a killed test leaves its servers.
func dieWithParent() *syscall.SysProcAttr { return nil }
