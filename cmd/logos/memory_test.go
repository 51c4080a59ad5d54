package main

import "testing"

func TestGarbageIsBoundedWhereMuchIsInUse(t *testing.T) {
	for live, want := range map[uint64]int{0: gcPercent, 10 << 20: gcPercent, 32 << 20: gcPercent, 64 << 20: 200, 128 << 20: gcLeast, 1 << 40: gcLeast} {
		if got := garbagePercent(live); got != want {
			t.Errorf("beside %d bytes in use there may be %d%% of garbage, want %d%%", live, got, want)
		}
	}
}
