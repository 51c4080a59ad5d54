package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// adminCall makes a call of the admin API that must work.
func (g *gateway) adminCall(key, method, path string, body any) object {
	g.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		g.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(g.t.Context(), method, "http://"+g.admin+path, bytes.NewReader(encoded))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := object{}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		g.t.Fatalf("%s %s: %d %v %v", method, path, resp.StatusCode, answer, err)
	}
	return answer
}

// document returns what GET /openapi.json answers, without a key.
func (g *gateway) document() []byte {
	g.t.Helper()
	resp, err := client.Get("http://" + g.admin + "/openapi.json")
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		g.t.Fatalf("the document: %d %v", resp.StatusCode, err)
	}
	return text
}

// keep makes a row survive whatever is done to it: a change of it is answered, and changes nothing. So a test
// may try everything with the key that it authenticates with.
func (g *gateway) keep(table string, id any) {
	g.t.Helper()
	conn := g.db()
	for _, statement := range []string{
		`create or replace function keep() returns trigger language plpgsql as $$ begin return old; end $$`,
		fmt.Sprintf(`create trigger keep_%[2]v before update on %[1]s for each row when (old.id = %[2]v) execute function keep()`, table, id),
	} {
		if _, err := conn.Exec(context.Background(), statement); err != nil {
			g.t.Fatal(err)
		}
	}
}

// TestAdminAPIIsWhatItsDocumentSays tries the admin API in all ways that its document allows, and in many that
// it forbids, as the root key and as a member's.
func TestAdminAPIIsWhatItsDocumentSays(t *testing.T) {
	p := newProvider(t, func(_ *provider, w http.ResponseWriter, _ asked) { fmt.Fprint(w, `{"data":[{"id":"tiny"}]}`) })
	g := start(t, nil)
	g.setup("first", p.URL)
	// The examples name a provider that is elsewhere.
	document := filepath.Join(t.TempDir(), "openapi.json")
	if err := os.WriteFile(document, bytes.ReplaceAll(g.document(), []byte("https://api.openai.com"), []byte(p.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.keep("api_keys", 1)
	g.keep("projects", 1)
	g.schemathesis(t, document, g.root)

	team := g.adminCall(g.root, "POST", "/admin/v1/teams", object{"name": "of the member", "member_key_limit": 1000})
	member := g.adminCall(g.root, "POST", "/admin/v1/members", object{"email": "member@example.org", "role": "member", "team_id": team["id"]})
	project := g.adminCall(g.root, "POST", "/admin/v1/projects", object{"name": "of the member", "team_id": team["id"]})
	key := g.adminCall(g.root, "POST", "/admin/v1/apiKeys", object{"project_id": project["id"], "member_id": member["id"]})
	g.keep("api_keys", key["id"])
	g.schemathesis(t, document, key["secret"].(string), "--phases", "fuzzing,stateful", "--max-examples", "4")
}

// schemathesis tests the admin API by its document.
func (g *gateway) schemathesis(t *testing.T, document, key string, args ...string) {
	t.Helper()
	configuration, err := filepath.Abs("python/schemathesis.toml")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	args = append([]string{"--config-file", configuration, "run", document, "--url", "http://" + g.admin, "--no-color"}, args...)
	cmd := python(ctx, t, "run_schemathesis.py", args...)
	cmd.Args[1], err = filepath.Abs(cmd.Args[1])
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir = t.TempDir() // it keeps files of its own
	cmd.Env = append(cmd.Env, "LOGOS_KEY="+key)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	_, summary, _ := strings.Cut(string(out), " SUMMARY ")
	if err != nil {
		t.Fatalf("schemathesis: %v\n%s", err, out)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	t.Logf("in %v, with %v of CPU:%s", time.Since(begin).Round(time.Second), cpu.Round(time.Second), summary)
}

func TestOpenAPIDocumentIsValid(t *testing.T) {
	document, err := os.Open("../api/openapi/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer document.Close()
	cmd := python(t.Context(), t, "check_openapi.py")
	cmd.Stdin = document
	var got struct {
		Version  string
		Examples int
	}
	out, err := cmd.CombinedOutput()
	if err != nil || json.Unmarshal(out, &got) != nil {
		t.Fatalf("check_openapi.py: %v\n%s", err, out)
	}
	if got.Version != "3.1.1" || got.Examples < 20 {
		t.Errorf("it is of version %q with %d examples", got.Version, got.Examples)
	}
}
