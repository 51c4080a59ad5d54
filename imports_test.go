package logos_test

import (
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ls1intum/edutelligence/logos"

// forbidden holds what a package may not import, also not by way of others, and why.
var forbidden = []struct {
	pkg, imports, because string
}{
	{"", "net/http", "the domain does no I/O"},
	{"", module + "/", "everything speaks in the domain's types, so it can import nothing of ours"},
	{"dialect", module + "/policy", "what providers say does not depend on what we decide"},
	{"policy", "net/http", "deciding is pure"},
	{"billing", "net/http", "rating is pure"},
	{"billing", module + "/policy", "what calls cost does not depend on what we decide"},
	{"billing", module + "/sql", "rating is pure"},
	{"billing", module + "/billing/catalogue", "what calls cost does not depend on others' lists"},
	{"policy", module + "/sql", "deciding is pure"},
	{"budget", module + "/sql", "what the database keeps of budgets comes as an interface"},
	{"budget", module + "/ext_proc", "budgets know no requests"},
	{"budget", module + "/billing", "what targets charge comes with them"},
	{"ext_proc", module + "/sql", "the request path makes no database call"},
	{"ext_proc", module + "/xds", "what ext_proc needs of Envoy's state comes as a function"},
	{"ext_proc", module + "/accesslog", "the response is Envoy's; what became of a call is the access log's"},
	{"accesslog", module + "/sql", "the reader states what it needs of a store"},
	{"accesslog", module + "/xds", "the reader states what it needs of Envoy"},
	{"xds", module + "/sql", "resources are a pure function of the configuration"},
	{"xds", module + "/ext_proc", "ext_proc's headers come in as an option"},
	{"xds", module + "/accesslog", "log formats come in as an option"},
	{"egress", module + "/xds", "what may be called does not depend on who is told"},
	{"egress", module + "/sql", "the rules come with the configuration"},
	{"xds", module + "/egress", "addresses come in as an option"},
	{"probe", module + "/sql", "the prober states what it needs of a store"},
	{"probe", module + "/xds", "the prober states what it needs of Envoy"},
	{"probe", module + "/api", "proto messages stop in api"},
	{"ext_proc", module + "/probe", "ext_proc knows tickets, not what they are for"},
	{"health", module + "/accesslog", "signs of attempts come in as calls, whoever reads them"},
	{"health", module + "/ext_proc", "health is asked, and knows nobody who asks"},
	{"health", module + "/sql", "health is of the moment, and in memory"},
	{"health", module + "/xds", "health knows clusters by name alone"},
	{"accesslog", module + "/health", "the reader passes signs on as the domain's"},
	{"sql", module + "/api", "proto messages stop in api"},
	{"sql", module + "/inflight", "the store knows rows, not processes"},
}

func TestImportsRunOneWay(t *testing.T) {
	for _, rule := range forbidden {
		out, err := exec.Command("go", "list", "-deps", module+strings.TrimSuffix("/"+rule.pkg, "/")).CombinedOutput()
		if err != nil {
			t.Fatalf("go list %s: %v\n%s", rule.pkg, err, out)
		}
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			if dep == rule.imports || strings.HasSuffix(rule.imports, "/") && strings.HasPrefix(dep, rule.imports) || strings.HasPrefix(dep, rule.imports+"/") && strings.HasPrefix(rule.imports, module) {
				t.Errorf("%s imports %s: %s", rule.pkg, dep, rule.because)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dir := range strings.Lines(string(out)) {
		dir = strings.TrimSpace(dir)
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		generated := slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, ".pb.go") }) || strings.HasSuffix(dir, filepath.Join("internal", "db"))
		if generated {
			continue
		}
		documented, code := false, false
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			code = code || !strings.HasSuffix(file, "_test.go")
			documented = documented || parsed.Doc != nil && len(parsed.Doc.Text()) > 40
		}
		if code && !documented {
			t.Errorf("%s has no package comment", filepath.Base(dir))
		}
	}
}
