package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
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

func appendTo(path, text string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		text = "# Measured\n`make bench` compares Logos with the bare Envoy that it runs on; `go run ./bench -out bench/RESULTS.md` adds to this file.\n\n" + text
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
