package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// productKey is the provider's credential that the product holds; by it the mock's books tell its calls.
const productKey = "the-products-own"

// A product is a whole Logos of its own, started by `logos up` in an empty data directory.
type product struct {
	*child
	*side
	dir                 string
	environment         []string
	admin               string
	provider            string
	tree                productTree // as it was when the measuring began
	known               []process   // the descendants last seen
	base                books       // what was in the books before the measuring began
	late                int         // rounds whose records were not complete in time
	missing             float64     // calls that were not recorded in time
	profile, providerID any         // their ids
}

// startProduct starts the product and sets it up. The ports are the data plane's, the admin's and Envoy's admin's.
func startProduct(ctx context.Context, dir string, o options, ports []string, provider *mockProcess) (*product, error) {
	p := &product{side: &side{name: "Logos", address: ports[0]}, admin: ports[1], provider: provider.address, dir: dir}
	if err := p.begin(o, ports); err != nil {
		return nil, err
	}
	if err := p.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the product: %w", err), p.stop())
	}
	return p, nil
}

// begin starts the program in an empty data directory.
func (p *product) begin(o options, ports []string) error {
	p.environment = append(cleanEnvironment(), "LOGOS_DATA_DIR="+filepath.Join(p.dir, "data"), "LOGOS_ENVOY="+o.envoy, "LOGOS_ENVOY_CONCURRENCY="+strconv.Itoa(concurrency),
		"LOGOS_LISTEN="+ports[0], "LOGOS_ADMIN_LISTEN="+ports[1], "LOGOS_ENVOY_ADMIN="+ports[2])
	p.cpu, p.memory, p.settle = p.readCPU, p.readMemory, p.waitRecorded
	if err := os.Mkdir(filepath.Join(p.dir, "data"), 0o755); err != nil {
		return err
	}
	return p.launch(o.logos)
}

// launch starts the program on the data directory as it is.
func (p *product) launch(program string) error {
	cmd := exec.Command(program, "up", "--demo=false")
	cmd.Env = p.environment
	c, err := start(cmd, "logos-up", p.dir)
	p.child = c
	return err
}

// cleanEnvironment leaves out what would make the product use somebody's database or settings.
func cleanEnvironment() []string {
	var out []string
	for _, v := range os.Environ() {
		if v == "DATABASE_URL" || strings.HasPrefix(v, "DATABASE_URL=") || strings.HasPrefix(v, "PG") ||
			strings.HasPrefix(v, "LOGOS_") && !strings.HasPrefix(v, "LOGOS_POSTGRES=") {
			continue
		}
		out = append(out, v)
	}
	return out
}

func (p *product) prepare(ctx context.Context) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	if err := p.setUp(ctx); err != nil {
		return err
	}
	byModel := func() error { // before the last step is in force, calls may go by pass-through
		now, err := p.readBooks(ctx)
		if err == nil && now.provider.Requests == 0 {
			err = errors.New("the provider got no call with the product's credential")
		}
		return err
	}
	if err := firstAnswer(ctx, p.side, p.child, 30*time.Second, byModel); err != nil {
		return fmt.Errorf("get a first answer: %w", err)
	}
	if err := p.ready(ctx); err != nil {
		return err
	}
	return p.beginMeasuring(ctx)
}

// beginMeasuring notes which processes there are and what they have recorded.
func (p *product) beginMeasuring(ctx context.Context) error {
	tree, err := readProductTree(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	p.tree, p.answered = tree, 0
	return p.openBooks(ctx)
}

func (p *product) ready(ctx context.Context) error {
	err := poll(ctx, 120*time.Second, 20*time.Millisecond, func() error {
		if err := p.hasEnded(); err != nil {
			return final{err}
		}
		p.see()
		_, err := p.ask(ctx, "http://"+p.admin+"/readyz", nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for /readyz: %w", err)
	}
	return nil
}

// setUp takes the steps of the set-up API, so that calls go by model to the mock.
func (p *product) setUp(ctx context.Context) (err error) {
	type m = map[string]any
	url := "http://" + p.provider + "/v1"
	step := func(name string, body m, wanted ...string) m { // after a failure, steps do nothing
		if err != nil {
			return nil
		}
		if p.key != "" {
			body["logos_key"] = p.key
		}
		var answer m
		answer, err = p.post(ctx, name, body)
		for _, want := range wanted {
			if err == nil && answer[want] == nil {
				err = fmt.Errorf("%s answered without %q: %v", name, want, answer)
			}
		}
		return answer
	}
	p.key, _ = step("setup", m{"base_url": url, "provider_name": "bench"}, "logos-key")["logos-key"].(string)
	added := step("add_provider", m{"provider_name": "bench", "base_url": url, "api_key": productKey,
		"auth_name": "authorization", "auth_format": "Bearer {}"}, "provider-id", "api-id")
	provider, api := added["provider-id"], added["api-id"]
	model := step("add_model", m{"name": modelName, "endpoint": "v1/chat/completions"}, "model_id")["model_id"]
	project := step("get_process_id", m{}, "result")["result"]
	profile := step("add_profile", m{"profile_name": "bench", "process_id": project}, "profile-id")["profile-id"]
	step("connect_process_provider", m{"profile_id": profile, "api_id": api})
	step("connect_process_model", m{"profile_id": profile, "model_id": model})
	step("connect_model_provider", m{"model_id": model, "provider_id": provider})
	step("connect_model_api", m{"model_id": model, "api_id": api})
	p.profile, p.providerID = profile, provider
	return err
}

func (p *product) post(ctx context.Context, name string, body any) (map[string]any, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	answer, err := p.ask(ctx, "http://"+p.admin+"/logosdb/"+name, text)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("%s answered %.300q: %w", name, answer, err)
	}
	return out, nil
}

// ask gets a page, or posts JSON to it.
func (p *product) ask(ctx context.Context, url string, body []byte) ([]byte, error) {
	if body == nil {
		return p.send(ctx, http.MethodGet, url, nil)
	}
	return p.send(ctx, http.MethodPost, url, body)
}

// send makes a request of the admin port, with the root key once there is one; any status but 200 is an error.
func (p *product) send(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if p.key != "" {
		req.Header.Set("Authorization", "Bearer "+p.key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.500s", method, url, resp.Status, text)
	}
	return text, err
}

// readCPU also makes sure that the processes are still those that the measuring began with.
func (p *product) readCPU() (parts, error) {
	p.see()
	tree, err := readProductTree(p.cmd.Process.Pid)
	if err == nil && (tree.envoy.pid != p.tree.envoy.pid || tree.serve.pid != p.tree.serve.pid) {
		err = errors.New("envoy or logos serve was started again")
	}
	return tree.cpu(), err
}

func (p *product) readMemory() (parts, error) {
	tree, err := readProductTree(p.cmd.Process.Pid)
	if err != nil {
		return parts{}, err
	}
	return tree.memory()
}

// see notes who descends from the supervisor, to be able to end them if it doesn't.
func (p *product) see() {
	if all, err := family(p.cmd.Process.Pid); err == nil && len(all) > 1 {
		p.known = all[1:]
	}
}

// stop ends the product as a user would, and then what it may have left behind.
func (p *product) stop() error {
	p.see()
	err := p.child.stop(os.Interrupt, 15*time.Second)
	for _, old := range p.known {
		now, gone := readProcess(old.pid)
		if gone != nil || now.begin != old.begin {
			continue
		}
		if kill := syscall.Kill(old.pid, syscall.SIGKILL); kill == nil {
			err = errors.Join(err, fmt.Errorf("logos up left process %d (%s) behind; it was killed", old.pid, old.name))
		}
	}
	return err
}
