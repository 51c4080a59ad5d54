package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// Without a large configuration the heap is small and its garbage much: request bodies. A few MiB more save a
// tenth of the time. With one, four times as much would be hundreds of MiB for nothing: garbage is then
// bounded in bytes.
const (
	gcPercent  = 400
	gcLeast    = 100
	gcGarbage  = 128 << 20 // bytes
	liveMetric = "/gc/heap/live:bytes"
)

// A heap sets how much garbage there may be. GOGC in the environment has precedence.
type heap struct {
	percent int // as set; 0: not yet
}

// tune is called after each change of the configuration.
func (h *heap) tune() {
	if os.Getenv("GOGC") != "" {
		return
	}
	if h.percent == 0 {
		debug.FreeOSMemory() // what reading everything has left behind
	}
	sample := []metrics.Sample{{Name: liveMetric}}
	metrics.Read(sample)
	if percent := garbagePercent(sample[0].Value.Uint64()); percent != h.percent {
		h.percent = percent
		debug.SetGCPercent(percent)
	}
}

// garbagePercent returns how much garbage, in percent of what is in use, there may be beside so many bytes.
func garbagePercent(live uint64) int {
	return int(max(gcLeast, min(gcPercent, 100*gcGarbage/max(live, 1))))
}
