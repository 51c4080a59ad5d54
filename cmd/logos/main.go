// Command logos is the gateway: `logos up` runs everything on one machine, `logos serve` runs the part that
// decides, configures Envoy and records calls, `logos migrate` prepares the database. This package reads
// the environment, wires the other packages together and shuts them down in order; it decides nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// Exit codes beside 0 and 1.
const (
	exitUsage = 2
	exitFinal = 3 // starting again would end the same way
)

const usage = `Usage: logos <command>

  up [--demo=false]   run everything here: Postgres (unless DATABASE_URL is set), logos serve and Envoy
  serve               run what decides, configures Envoy and records calls; needs DATABASE_URL and LOGOS_MASTER_KEY
  migrate             bring the database's schema up to date
  apply -f FILE       make the resources what a file says; --dry-run shows what would change
  export              write all resources as such a file
  health              say by the exit code whether the serve beside it answers
  version             print the version

Settings come from the environment; README lists them.
`

// A finalError is one that a restart doesn't help against.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	if command := remote(args, stdout, stderr); command != nil {
		return finish(args[0], command, stderr)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	withDemo := true
	var command func(context.Context, *settings, *zap.Logger) error
	switch args[0] {
	case "up":
		flags.BoolVar(&withDemo, "demo", true, "seed an empty database with the demo provider")
		command = func(ctx context.Context, s *settings, log *zap.Logger) error {
			return up(ctx, s, withDemo, stdout, log)
		}
	case "serve":
		command = serve
	case "migrate":
		command = migrate
	case "health":
		command = health
	case "version":
		fmt.Fprintln(stdout, version())
		return 0
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	default:
		fmt.Fprintf(stderr, "logos: there is no command %q\n\n%s", args[0], usage)
		return exitUsage
	}
	if err := flags.Parse(args[1:]); err != nil {
		return exitUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "logos %s takes no argument %q\n", args[0], flags.Arg(0))
		return exitUsage
	}
	return start(args[0], command, stderr)
}

func start(name string, command func(context.Context, *settings, *zap.Logger) error, stderr io.Writer) int {
	s, err := readSettings(os.Getenv)
	if err != nil {
		fmt.Fprintf(stderr, "logos %s: %v\n", name, err)
		return exitFinal
	}
	log := newLogger().Named(name)
	defer func() { _ = log.Sync() }()
	return finish(name, func(ctx context.Context) error { return command(ctx, s, log) }, stderr)
}

// remote returns a command that calls a gateway's admin API, and needs no settings of a gateway; nil: it is none.
func remote(args []string, stdout, stderr io.Writer) func(context.Context) error {
	switch {
	case args[0] == "apply":
		return func(ctx context.Context) error { return apply(ctx, args[1:], os.Stdin, stdout, stderr) }
	case args[0] == "export" && len(args) == 1:
		return func(ctx context.Context) error { return export(ctx, stdout) }
	}
	return nil
}

// finish runs a command until it ends or a signal comes, and returns its exit code.
func finish(name string, command func(context.Context) error, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := command(ctx); {
	case err == nil:
		return 0
	case errors.As(err, new(finalError)):
		fmt.Fprintf(stderr, "logos %s: %v\n", name, err)
		return exitFinal
	default:
		fmt.Fprintf(stderr, "logos %s: %v\n", name, err)
		return 1
	}
}

// newLogger writes lines for people to a terminal, and JSON to anything else.
func newLogger() *zap.Logger {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000Z07:00")
	encoder := zapcore.NewJSONEncoder(config)
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), termiosRequest); err == nil {
		config.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(config)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zap.InfoLevel))
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "logos (unknown build)"
	}
	revision := ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = " " + s.Value
		}
	}
	return "logos " + info.Main.Version + revision + " " + info.GoVersion
}

// Bounds of a shutdown: all of it happens within ten seconds.
const (
	drainFor    = 4 * time.Second
	childGrace  = 2 * time.Second
	requestLeft = 2 * time.Second
)
