package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ticks are what /proc counts in a second of CPU: Linux's USER_HZ, on every architecture of today.
const ticks = 100

// parts are amounts (seconds of CPU, bytes of memory) by the part of the product that they fall to.
type parts struct{ envoy, serve, up, postgres float64 }

// own is what counts as the product: what a call passes through. The supervisor idles, and Postgres is
// reported beside it.
func (p parts) own() float64 { return p.envoy + p.serve }

func (p parts) minus(q parts) parts {
	return parts{p.envoy - q.envoy, p.serve - q.serve, p.up - q.up, p.postgres - q.postgres}
}

func (p parts) plus(q parts) parts {
	return parts{p.envoy + q.envoy, p.serve + q.serve, p.up + q.up, p.postgres + q.postgres}
}

func (p parts) times(n float64) parts {
	return parts{p.envoy * n, p.serve * n, p.up * n, p.postgres * n}
}

// A process is a line of /proc/<pid>/stat.
type process struct {
	pid, parent int
	name        string
	begin       uint64  // its start; with the pid it names one process for ever
	cpu         float64 // seconds
	cpuOfDead   float64 // seconds, of its children that have ended
}

func readProcess(pid int) (process, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, string(text))
}

// parseStat reads a stat line; the name in it is in brackets and may hold anything.
func parseStat(pid int, text string) (process, error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("process %d: no name in %q", pid, text)
	}
	fields := strings.Fields(text[end+1:]) // the first is the third of proc(5)
	if len(fields) < 20 {
		return process{}, fmt.Errorf("process %d: too few fields in %q", pid, text)
	}
	var failed error
	number := func(i int) uint64 {
		n, err := strconv.ParseUint(fields[i-3], 10, 64)
		failed = errors.Join(failed, err)
		return n
	}
	p := process{
		pid: pid, parent: int(number(4)), name: text[open+1 : end], begin: number(22),
		cpu:       float64(number(14)+number(15)) / ticks,
		cpuOfDead: float64(number(16)+number(17)) / ticks,
	}
	return p, failed
}

// family returns the process and all that descend from it, the process first.
func family(root int) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	byParent := make(map[int][]process)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, err := readProcess(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		byParent[p.parent] = append(byParent[p.parent], p)
	}
	first, err := readProcess(root)
	if err != nil {
		return nil, err
	}
	out := []process{first}
	for i := 0; i < len(out); i++ {
		out = append(out, byParent[out[i].pid]...)
	}
	return out, nil
}

// arguments returns a process's command line.
func arguments(pid int) []string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return nil
	}
	return strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00")
}

// environment returns a variable of a process's environment.
func environment(pid int, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return "", err
	}
	for entry := range strings.SplitSeq(string(text), "\x00") {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("process %d was started without %s", pid, name)
}

// resident returns a process's resident memory in bytes.
func resident(pid int) (float64, error) { return statusBytes(pid, "VmRSS") }

// peak returns the most memory in bytes that a process ever had resident.
func peak(pid int) (float64, error) { return statusBytes(pid, "VmHWM") }

func statusBytes(pid int, field string) (float64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no memory", pid)
}

// A productTree is the product's processes, as its supervisor's descendants.
type productTree struct {
	up, serve, envoy process
	postgres         []process
}

func readProductTree(up int) (t productTree, err error) {
	all, err := family(up)
	if err != nil {
		return t, err
	}
	t.up = all[0]
	for _, p := range all[1:] {
		switch {
		case p.name == "envoy":
			t.envoy = p
		case p.name == "postgres":
			t.postgres = append(t.postgres, p)
		case slices.Contains(arguments(p.pid), "serve"):
			t.serve = p
		}
	}
	if t.envoy.pid == 0 || t.serve.pid == 0 || len(t.postgres) == 0 {
		return t, fmt.Errorf("below process %d (logos up) there is not one each of envoy, logos serve and postgres: %v", up, all)
	}
	return t, nil
}

// cpu returns the seconds that each part has taken. What Postgres's ended processes took is with their parent.
func (t productTree) cpu() parts {
	out := parts{envoy: t.envoy.cpu, serve: t.serve.cpu, up: t.up.cpu}
	for _, p := range t.postgres {
		out.postgres += p.cpu + p.cpuOfDead
	}
	return out
}

// memory returns the bytes that are resident now. Postgres's processes share memory, which is counted in each.
func (t productTree) memory() (out parts, err error) {
	add := func(to *float64, pid int) {
		n, failed := resident(pid)
		*to, err = *to+n, errors.Join(err, failed)
	}
	add(&out.envoy, t.envoy.pid)
	add(&out.serve, t.serve.pid)
	add(&out.up, t.up.pid)
	for _, p := range t.postgres {
		if n, gone := resident(p.pid); gone == nil {
			out.postgres += n
		}
	}
	return out, err
}
