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
	"strings"
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

  up [--demo=false]     run everything here: Postgres (unless DATABASE_URL is set), logos serve and Envoy
  serve                 run what decides, configures Envoy and records calls; needs DATABASE_URL and LOGOS_MASTER_KEY
  migrate [--to N] [--yes]
                        bring the database's schema up to date, or to version N; --yes: also if that loses data
  rekey                 put the database under the first of several master keys
  apply -f FILE         make the resources what a file says; --dry-run shows what would change
  export                write all resources as such a file
  prices import FILE    take prices from LiteLLM's or genai-prices' list, or with --builtin from the one that is built in;
                        --dry-run shows what would change, --approve also does what waits for a person
  prices set            say what a provider charges: --provider, --model, --currency, --input, --output…
  prices unpriced       show which deployments have no price, and how to give them one
  usage [--by team,model] [--month 2026-11] [--csv | --json]
                        what calls used and cost
  ledger verify [--from DAY] [--to DAY]
                        say by the exit code whether records, adjustments, totals and the counters of budgets add up. Of
                        budgets it can't check calls at once, windows that are over for a month or began before the oldest
                        record, end users who were erased, and whether calls count that labels select
  ledger rerate --from DAY --to DAY [--provider NAME] [--model NAME] [--reason TEXT] --dry-run | --yes
                        rate calls again by the present prices, and add the differences
  backup --to FILE      write the database and what this gateway has not stored yet into one file
  restore --from FILE   fill an empty database and data directory from such a file
  health                say by the exit code whether the serve beside it answers
  version               print the version

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
	args = withSubcommand(args)
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	do := find(args[0], flags, stdout)
	switch args[0] {
	case "version":
		fmt.Fprintln(stdout, version())
		return 0
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	if do == nil {
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
	return start(args[0], do, stderr)
}

// withSubcommand makes the two words of a command one, and the file behind them a flag.
func withSubcommand(args []string) []string {
	if args[0] != "prices" && args[0] != "ledger" || len(args) < 2 {
		return args
	}
	out := []string{args[0] + " " + args[1]}
	if args[0] == "prices" && len(args) > 2 && !strings.HasPrefix(args[2], "-") {
		out = append(out, "-f")
	}
	return append(out, args[2:]...)
}

// A command is what runs under a name, once its flags are parsed.
type command func(context.Context, *settings, *zap.Logger) error

// find returns the command of a name, with its flags added, or nil.
func find(name string, flags *flag.FlagSet, stdout io.Writer) command {
	switch name {
	case "up":
		withDemo := flags.Bool("demo", true, "seed an empty database with the demo provider")
		return func(ctx context.Context, s *settings, log *zap.Logger) error {
			return up(ctx, s, *withDemo, stdout, log)
		}
	case "serve":
		return serve
	case "migrate":
		to := flags.Int("to", -1, "version to migrate to, up or down")
		lose := flags.Bool("yes", false, "lose data that the version has no place for")
		return func(ctx context.Context, s *settings, log *zap.Logger) error {
			return migrate(ctx, s, *to, *lose, log)
		}
	case "rekey":
		return rekey
	case "backup":
		to := flags.String("to", "", "file to write")
		return func(ctx context.Context, s *settings, log *zap.Logger) error {
			return makeBackup(ctx, s, *to, stdout, log)
		}
	case "restore":
		from := flags.String("from", "", "file to read")
		return func(ctx context.Context, s *settings, log *zap.Logger) error {
			return restore(ctx, s, *from, stdout, log)
		}
	case "apply":
		d := declared{path: flags.String("f", "", "the file, or - for standard input")}
		d.dryRun = flags.Bool("dry-run", false, "show what would change, and change nothing")
		d.prune = flags.Bool("prune", false, "delete what the file does not mention, of the kinds that it does")
		return func(ctx context.Context, _ *settings, _ *zap.Logger) error { return d.apply(ctx, os.Stdin, stdout) }
	case "export":
		return func(ctx context.Context, _ *settings, _ *zap.Logger) error { return export(ctx, stdout) }
	case "usage":
		return usageCommand(flags, stdout)
	case "ledger verify":
		return verifyCommand(flags, stdout)
	case "ledger rerate":
		return rerateCommand(flags, stdout)
	case "health":
		return askHealth
	}
	if what, ok := strings.CutPrefix(name, "prices "); ok {
		return findPrices(what, flags, stdout)
	}
	return nil
}

func start(name string, do command, stderr io.Writer) int {
	s, err := readSettings(os.Getenv)
	if err != nil {
		fmt.Fprintf(stderr, "logos %s: %v\n", name, err)
		return exitFinal
	}
	log := newLogger().Named(name)
	defer func() { _ = log.Sync() }()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := do(ctx, s, log); {
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
