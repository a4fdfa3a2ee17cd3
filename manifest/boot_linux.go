package manifest

import (
	"os"
	"strings"
	"sync"
)

// bootID names this run of the kernel; "" when it cannot be told.
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})
