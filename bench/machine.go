package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// describeMachine says what the numbers were measured on; what it cannot find out it leaves out.
func describeMachine(ctx context.Context, envoy string) string {
	model := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version := "of unknown version"
	if out, err := exec.CommandContext(ctx, envoy, "--version").Output(); err == nil {
		_, rest, _ := strings.Cut(string(out), "version: ") // <commit>/1.40.0/Clean/RELEASE/BoringSSL
		if fields := strings.Split(rest, "/"); len(fields) > 1 {
			version = fields[1]
		}
	}
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, Envoy %s.", model, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version(), version)
}

// A machineTime is what /proc/stat counts since the machine's start, in seconds of CPU.
type machineTime struct{ all, busy, stolen, ours float64 }

func readMachine() (m machineTime, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m, err
	}
	// user, nice, system, idle, iowait, irq, softirq, steal; guests' time, behind these, is in user's too.
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return m, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var t [8]float64
	for i := range t {
		if t[i], err = strconv.ParseFloat(fields[i+1], 64); err != nil {
			return m, fmt.Errorf("read /proc/stat: %w", err)
		}
		m.all += t[i] / ticks
	}
	m.busy, m.stolen = (t[0]+t[1]+t[2])/ticks, t[7]/ticks
	ours, err := family(os.Getpid())
	for _, p := range ours {
		m.ours += p.cpu + p.cpuOfDead
	}
	return m, err
}

// others says how far the machine was not this program's alone.
func (m machineTime) others(before machineTime) string {
	share := func(now, then float64) float64 { return max(0, 100*(now-then)/(m.all-before.all)) }
	return fmt.Sprintf("Meanwhile other processes took %.0f%% of the machine, and its host took %.0f%% away; what is measured means little unless both are low.",
		share(m.busy-m.ours, before.busy-before.ours), share(m.stolen, before.stolen))
}

func appendTo(path, text string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		text = "# Measured\n`make bench` compares Logos with the bare Envoy that it runs on, and an installation of 100,000 API keys with a small one;\n`go run ./bench -out bench/RESULTS.md` and `go run ./bench -scale -out bench/RESULTS.md` add to this file.\n\n" + text
	} else {
		text = "\n" + text
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
