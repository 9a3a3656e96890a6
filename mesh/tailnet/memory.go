package tailnet

import (
	"os"
	"runtime/debug"
)

// LimitMemory asks the garbage collector to stay below a number of bytes. The
// network stack lets buffers grow to hundreds of megabytes under bulk traffic
// otherwise; with the limit it is slower there. What the environment says
// (GOMEMLIMIT) comes first.
func LimitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}
