package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Dump writes what a snapshot of a database holds, in pg_dump's custom format. install is the directory that
// holds bin/pg_dump; where it has none, the one on PATH is used.
func Dump(ctx context.Context, install, databaseURL, snapshot string, to io.Writer) error {
	cmd, err := client(ctx, install, "pg_dump", databaseURL, "--format=custom", "--no-owner", "--no-privileges", "--snapshot="+snapshot)
	if err != nil {
		return err
	}
	cmd.Stdout = to
	return run(cmd)
}

// Load fills a database with what [Dump] wrote: with all of it, or with nothing.
func Load(ctx context.Context, install, databaseURL string, from io.Reader) error {
	config, err := parse(databaseURL)
	if err != nil {
		return err
	}
	cmd, err := client(ctx, install, "pg_restore", databaseURL, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--dbname="+config.Database)
	if err != nil {
		return err
	}
	cmd.Stdin = from
	return run(cmd)
}

// ClientVersion returns the major version of a client program, like pg_dump.
func ClientVersion(ctx context.Context, install, program string) (int, error) {
	path, err := find(install, program)
	if err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w: %s", path, err, out)
	}
	return major(path, out)
}

// major reads "pg_dump (PostgreSQL) 18.6".
func major(program string, said []byte) (int, error) {
	_, version, _ := strings.Cut(string(said), ") ")
	text, _, _ := strings.Cut(strings.TrimSpace(version), ".")
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s does not tell its version: %q", program, said)
	}
	return n, nil
}

func find(install, program string) (string, error) {
	path := filepath.Join(install, "bin", program)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("there is no %s, neither in bin/ of %s nor on PATH: set LOGOS_POSTGRES to the directory of a Postgres installation", program, install)
	}
	return path, nil
}

// client prepares a client program. All that it learns about the database is in its environment, since its
// arguments are for everyone to see.
func client(ctx context.Context, install, program, databaseURL string, args ...string) (*exec.Cmd, error) {
	path, err := find(install, program)
	if err != nil {
		return nil, err
	}
	env, err := clientEnv(databaseURL)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"--no-password"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd, nil
}

// passedOn are the settings of a connection string that libpq takes from its environment and pgx does not
// show as it parsed them.
var passedOn = map[string]bool{
	"sslmode": true, "sslcert": true, "sslkey": true, "sslrootcert": true, "sslcrl": true, "sslsni": true, "sslnegotiation": true,
	"channel_binding": true, "target_session_attrs": true, "gssencmode": true, "krbsrvname": true, "require_auth": true,
}

// keywordValue matches one setting of a connection string that is not a URL.
var keywordValue = regexp.MustCompile(`(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S*)`)

// parse reads a connection string. Its errors do not repeat it, since it holds a password.
func parse(databaseURL string) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a Postgres connection string: it looks like postgres://user:password@host:5432/name")
	}
	return config, nil
}

// clientEnv turns a connection string into libpq's environment.
func clientEnv(databaseURL string) ([]string, error) {
	config, err := parse(databaseURL)
	if err != nil {
		return nil, err
	}
	hosts, ports := []string{config.Host}, []string{strconv.Itoa(int(config.Port))}
	for _, f := range config.Fallbacks { // also the same host without TLS
		if port := strconv.Itoa(int(f.Port)); f.Host != hosts[len(hosts)-1] || port != ports[len(ports)-1] {
			hosts, ports = append(hosts, f.Host), append(ports, port)
		}
	}
	env := []string{
		"PGHOST=" + strings.Join(hosts, ","), "PGPORT=" + strings.Join(ports, ","),
		"PGUSER=" + config.User, "PGPASSWORD=" + config.Password, "PGDATABASE=" + config.Database,
	}
	for name, v := range settingsOf(databaseURL) {
		if passedOn[name] {
			env = append(env, "PG"+strings.ToUpper(strings.ReplaceAll(name, "_", ""))+"="+v)
		}
	}
	return env, nil
}

// settingsOf returns the settings of a connection string in either form.
func settingsOf(databaseURL string) map[string]string {
	settings := make(map[string]string)
	if strings.Contains(databaseURL, "://") {
		_, query, _ := strings.Cut(databaseURL, "?")
		values, _ := url.ParseQuery(query) // it was parsed as a whole already
		for name := range values {
			settings[name] = values.Get(name)
		}
		return settings
	}
	for _, m := range keywordValue.FindAllStringSubmatch(databaseURL, -1) {
		settings[m[1]] = strings.Trim(m[2], "'")
	}
	return settings
}

// run runs a client program and returns, as its error, what it says went wrong.
func run(cmd *exec.Cmd) error {
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if err == nil {
		return nil
	}
	const most = 2000
	text := bytes.TrimSpace(said.Bytes())
	return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, text[:min(len(text), most)])
}
