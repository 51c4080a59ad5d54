package e2e_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestSetupIsAnsweredOnlyToThisMachineOrWithTheToken(t *testing.T) {
	g := start(t, nil)
	c := &curl{t: t, admin: g.admin, known: map[string]string{}}
	const body = `{"base_url":"http://127.0.0.1:9/v1","provider_name":"first"}`
	for _, headers := range []string{
		"origin: http://" + g.admin, "origin: null", "x-forwarded-for: 127.0.0.1", "x-forwarded-host: localhost", "x-real-ip: 127.0.0.1",
		"forwarded: for=127.0.0.1", "via: 1.1 proxy", "host: logos.example.org", "host: 127.0.0.1.example.org:8081", "x-logos-setup-token: 00",
	} {
		all := []string{headers}
		if strings.HasPrefix(headers, "x-logos") {
			all = append(all, "origin: http://elsewhere.example.org")
		}
		if status, answer := c.send("POST", "setup", body, all...); status != 403 || !strings.HasPrefix(answer, `{"error":`) {
			t.Errorf("with %v: %d %s", all, status, answer)
		}
	}
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""} {
		if status, answer := c.send("POST", "setup", body, "content-type: "+kind); status != 400 && status != 422 {
			t.Errorf("as %q: %d %s", kind, status, answer)
		}
	}
	for _, own := range ownAddresses(t, g) {
		c.refuses("setup", `{"provider_name":"first","base_url":"http://`+own+`/v1"}`, 422)
	}
	log, err := os.ReadFile(g.output.Name())
	if err != nil {
		t.Fatal(err)
	}
	token := regexp.MustCompile(`"setup_token":"([0-9a-f]+)"`).FindSubmatch(log)
	if token == nil {
		t.Fatalf("no set-up token in %s", log)
	}
	c.step("POST", "setup", body, `{"logos-key":"{key}"}`, "x-forwarded-for: 192.0.2.1", "host: logos.example.org", "x-logos-setup-token: "+string(token[1]))
	c.refuses("setup", body, 409)
	g.root = c.known["key"]
	g.waitRevision()
	if r := g.call("GET", "/v1/models", ""); r.code() != "upstream_unavailable" { // nothing listens there
		t.Errorf("the new key on the data plane: %v", r)
	}
}

// ownAddresses returns ways to write the addresses of the gateway's own ports.
func ownAddresses(t *testing.T, g *gateway) (out []string) {
	t.Helper()
	hosts := []string{"127.0.0.1", "localhost", "LOCALHOST", "127.1.2.3", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"}
	local, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range local {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil {
			hosts = append(hosts, ip.IP.String())
		}
	}
	for _, own := range []string{g.data, g.admin, g.stats} {
		_, port, err := net.SplitHostPort(own)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range hosts {
			out = append(out, host+":"+port)
		}
	}
	return out
}

// refuses makes a call that must be answered with this status and an error.
func (c *curl) refuses(call, body string, want int, headers ...string) {
	c.t.Helper()
	status, answer := c.send("POST", call, body, headers...)
	if status != want || !regexp.MustCompile(`^\{"error":"[^"].*"\}$`).MatchString(answer) {
		c.t.Errorf("%s %s answered %d %s, want %d and an error", call, c.fill(body), status, answer, want)
	}
}

func TestSetupMistakes(t *testing.T) {
	g := start(t, nil, "--demo=true") // for the key of its project, which is no root key
	var member []byte
	g.eventually("key of the demo", waitLong, func() bool {
		member, _ = os.ReadFile(filepath.Join(g.dir, "demo.key"))
		return len(member) > 0
	})
	c := &curl{t: t, admin: g.admin, known: map[string]string{"base": "http://127.0.0.1:9/v1", "member": strings.TrimSpace(string(member))}}
	const setup = `{"provider_name":"first","base_url":"{base}"}`
	const provider = `{"logos_key":"{key}","provider_name":"second","base_url":"{base}","api_key":"sk-1","auth_name":"api-key","auth_format":"{}"}`
	c.step("POST", "setup", setup, `{"logos-key":"{key}"}`)
	c.step("POST", "add_provider", provider, `{"api-id":{api},"provider-id":{provider},"result":"Created Provider."}`)
	c.step("POST", "add_model", `{"logos_key":"{key}","name":"m","endpoint":"chat/completions"}`, `{"model_id":{model},"result":"Created Model"}`)
	c.step("POST", "get_process_id", `{"logos_key":"{key}"}`, `{"result":{process}}`)
	c.step("POST", "add_profile", `{"logos_key":"{key}","profile_name":"p","process_id":{process}}`, `{"profile-id":{profile},"result":"Added profile"}`)

	// Every call with a body that works.
	calls := []struct{ name, body, want, again string }{
		{"get_process_id", `{"logos_key":"{key}"}`, `{"result":{process}}`, ""},
		{"get_api_id", `{"logos_key":"{key}","api_key":"sk-1"}`, `{"api-id":{api},"result":"API-ID: {api}"}`, ""},
		{"connect_process_provider", `{"logos_key":"{key}","profile_id":{profile},"api_id":{api}}`, `{"result":"Added connection to api."}`, ""},
		{"connect_process_model", `{"logos_key":"{key}","profile_id":{profile},"model_id":{model}}`, `{"note":"{note}","result":"Connected process to model. ID: {grant}"}`, `{"result":"Connected process to model. ID: {grant}"}`},
		{"connect_model_provider", `{"logos_key":"{key}","model_id":{model},"provider_id":{provider}}`, `{"result":"Connected Model to Provider. ID: {deployment}."}`, ""},
		{"connect_model_api", `{"logos_key":"{key}","model_id":{model},"api_id":{api}}`, `{"result":"Added api-connection to model."}`, ""},
		{"add_model", `{"logos_key":"{key}","name":"n","endpoint":"completions"}`, `{"model_id":{other},"result":"Created Model"}`, "409"},
		{"add_profile", `{"logos_key":"{key}","profile_name":"q","process_id":{process}}`, `{"profile-id":{second},"result":"Added profile"}`, "409"},
		{"add_provider", provider, `{"api-id":{api},"provider-id":{provider},"result":"Created Provider."}`, ""},
	}
	optional := map[string]bool{"api_key of add_provider": true, "endpoint of add_model": true} // a server without a key; the usual path
	for _, call := range calls {
		t.Run(call.name, func(t *testing.T) {
			c := &curl{t: t, admin: c.admin, known: c.known}
			for _, field := range regexp.MustCompile(`"([a-z_]+)":("[^"]*"|\{[a-z]+\}),?`).FindAllStringSubmatch(call.body, -1) {
				without := strings.Replace(strings.Replace(call.body, field[0], "", 1), ",}", "}", 1)
				switch {
				case field[1] == "logos_key":
					c.refuses(call.name, without, 401)
					c.refuses(call.name, strings.Replace(call.body, "{key}", "lg-unknown", 1), 401)
					if call.name != "get_process_id" {
						c.refuses(call.name, strings.Replace(call.body, "{key}", "{member}", 1), 403)
					}
				case optional[field[1]+" of "+call.name]:
				default:
					c.refuses(call.name, without, 422)
					c.refuses(call.name, strings.Replace(call.body, field[2], `[1]`, 1), 422)
				}
				if strings.HasSuffix(field[1], "_id") {
					c.refuses(call.name, strings.Replace(call.body, field[2], "999999", 1), 404)
					for _, bad := range []string{`0`, `-1`, `1.5`, `"x"`, `null`, `99999999999999999999`} {
						c.refuses(call.name, strings.Replace(call.body, field[2], bad, 1), 422)
					}
				}
			}
			c.refuses(call.name, strings.TrimSuffix(call.body, "}"), 400)
			c.refuses(call.name, `[]`, 400)
			c.refuses(call.name, ``, 400)
			c.refuses(call.name, call.body, 400, "content-type: text/plain")
			c.step("POST", call.name, call.body, call.want)
			switch call.again {
			case "":
				c.step("POST", call.name, call.body, call.want)
			case "409":
				c.refuses(call.name, call.body, 409)
			default:
				c.step("POST", call.name, call.body, call.again)
			}
		})
	}

	t.Run("a known provider gets one more credential", func(t *testing.T) {
		c := &curl{t: t, admin: c.admin, known: c.known}
		c.step("POST", "add_provider", strings.Replace(provider, "sk-1", "sk-2", 1), `{"api-id":{fresh},"provider-id":{provider},"result":"Created Provider."}`)
		if c.known["fresh"] == c.known["api"] {
			t.Error("it is the old credential")
		}
		c.step("POST", "get_api_id", `{"logos_key":"{key}","api_key":"sk-2"}`, `{"api-id":{fresh},"result":"API-ID: {fresh}"}`)
		c.step("POST", "connect_process_provider", `{"logos_key":"{key}","profile_id":{second},"api_id":{fresh}}`, `{"result":"Added connection to api."}`)
		c.step("POST", "connect_process_provider", `{"logos_key":"{key}","profile_id":{second},"api_id":{api}}`, `{"result":"Added connection to api."}`)
	})
	t.Run("the gateway's own ports", func(t *testing.T) {
		c := &curl{t: t, admin: c.admin, known: c.known}
		for _, own := range ownAddresses(t, g) {
			c.refuses("add_provider", strings.Replace(provider, "{base}", "http://"+own+"/v1", 1), 422)
		}
	})
	t.Run("others", func(t *testing.T) {
		c := &curl{t: t, admin: c.admin, known: c.known}
		c.refuses("setup", setup, 409)
		c.refuses("get_api_id", `{"logos_key":"{key}","api_key":"sk-unknown"}`, 404)
		c.refuses("no_such_call", `{"logos_key":"{key}"}`, 404)
		c.refuses("connect_model_api", `{"logos_key":"{key}","model_id":{other},"api_id":{api}}`, 404)
		for _, base := range []string{"127.0.0.1:9", "ftp://127.0.0.1/v1", "http://", "http://user:secret@127.0.0.1:9/v1", "http://127.0.0.1:0/v1"} {
			c.refuses("add_provider", strings.Replace(provider, "{base}", base, 1), 422)
		}
		c.refuses("add_provider", strings.Replace(provider, "sk-1", "{key}", 1), 422)
		c.refuses("add_provider", strings.Replace(provider, `"auth_format":"{}"`, `"auth_format":"Bearer"`, 1), 422)
		c.step("POST", "get_process_id", `{"logos_key":"{member}"}`, `{"result":{own}}`)
		if c.known["own"] == c.known["process"] {
			t.Error("the demo's key belongs to the root key's process")
		}
	})
}
