package api_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// add adds a provider with a name of its own at a base URL.
func (g *gateway) add(base string, pairs ...string) (status int, answer object) {
	g.t.Helper()
	body := object{"provider_name": fmt.Sprintf("p%d", len(g.inForce)), "base_url": base, "api_key": "sk-1", "auth_name": "authorization", "auth_format": "Bearer {}"}
	for i := 0; i < len(pairs); i += 2 {
		body[pairs[i]] = pairs[i+1]
	}
	return g.try("add_provider", body)
}

// here lists the ways to name this machine in a URL.
func here(t *testing.T) (hosts []string) {
	t.Helper()
	hosts = []string{"localhost", "LOCALHOST", "localhost.", "some.localhost", "127.0.0.1", "127.0.0.2", "127.255.255.254", "[::1]", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]"}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			t.Fatal(err)
		}
		host := prefix.Addr().String()
		if prefix.Addr().Is6() {
			host = "[" + host + "]"
		}
		hosts = append(hosts, host)
	}
	if name, err := os.Hostname(); err == nil {
		if found, err := net.LookupHost(name); err == nil && len(found) > 0 {
			hosts = append(hosts, name)
		}
	}
	return hosts
}

func TestRefusesProvidersThatAreTheGatewayItself(t *testing.T) {
	t.Parallel()
	g := content(t)
	for _, host := range here(t) {
		for _, port := range []string{"8080", "8081", "9901"} {
			status, answer := g.add("http://" + host + ":" + port + "/v1")
			if text := message(t, answer); status != 422 || !strings.Contains(text, "this gateway itself") {
				t.Errorf("%s:%s answers %d %q", host, port, status, text)
			}
		}
	}
	for _, base := range []string{"http://localhost:8082", "https://127.0.0.1", "http://192.0.2.1:8080", "http://[2001:db8::1]:8081", "http://nowhere.invalid:8080"} {
		if status, answer := g.add(base); status != 200 {
			t.Errorf("%s answers %d %v", base, status, answer)
		}
	}
}

// The port of a listener may be one that a scheme stands for.
func TestRefusesTheGatewayAlsoWithoutAPort(t *testing.T) {
	t.Parallel()
	g := content(t)
	g.handler = g.serve(token, []string{"0.0.0.0:80", "127.0.0.1:443"})
	for base, want := range map[string]int{"http://localhost": 422, "https://localhost/v1": 422, "http://localhost:443": 422, "https://localhost:80": 422, "http://localhost:8080": 200, "http://localhost:": 422} {
		if status, answer := g.add(base); status != want {
			t.Errorf("%s answers %d %v, want %d", base, status, answer, want)
		}
	}
}

func TestRefusesPortsInOtherSpellings(t *testing.T) {
	t.Parallel()
	g := content(t)
	for _, base := range []string{"http://localhost:08080", "http://127.0.0.1:0008081", "http://p.example:00", "http://p.example:000"} {
		if status, answer := g.add(base); status != 422 {
			t.Errorf("%s answers %d %v", base, status, answer)
		}
	}
}

// The address of a link is local too, whatever its zone.
func TestRefusesTheGatewayAtTheAddressOfALink(t *testing.T) {
	t.Parallel()
	g := content(t)
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || !prefix.Addr().Is6() || !prefix.Addr().IsLinkLocalUnicast() {
				continue
			}
			tried++
			if status, answer := g.add("http://[" + prefix.Addr().String() + "%25" + i.Name + "]:8080"); status != 422 {
				t.Errorf("%s at %s answers %d %v", prefix.Addr(), i.Name, status, answer)
			}
		}
	}
	if tried == 0 {
		t.Skip("no interface of this machine has an IPv6 link-local address to try")
	}
}

// Some resolvers take numbers for addresses that others look up as names.
func TestRefusesAddressesInOddForms(t *testing.T) {
	t.Parallel()
	g := content(t)
	for _, host := range []string{"127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.01", "127.0.0.1.", "192.0.2.0x1", "1"} {
		if status, answer := g.add("http://" + host + ":8080"); status != 422 {
			t.Errorf("%s answers %d %v", host, status, answer)
		}
	}
}

// Envoy refuses such a name for TLS, and with it counts the whole configuration as not taken.
func TestRefusesAHostThatNoNameCanHave(t *testing.T) {
	t.Parallel()
	g := content(t)
	label := strings.Repeat("a", 60) + "."
	for host, want := range map[string]int{strings.Repeat(label, 4) + "example": 200, strings.Repeat(label, 5) + "example": 422} {
		if status, answer := g.add("https://" + host); status != want {
			t.Errorf("%s answers %d %v, want %d", host, status, answer, want)
		}
	}
}

// Envoy may run on another machine than this, and the gateway is there as well.
func TestRefusesTheGatewayOnAnotherMachine(t *testing.T) {
	t.Parallel()
	g := content(t)
	g.handler = g.serve(token, []string{"192.0.2.7:8080", "[2001:db8::7]:8081"})
	for base, want := range map[string]int{
		"http://192.0.2.7:8080": 422, "http://192.0.2.7:8081": 422, "http://[2001:db8::7]:8080": 422, "http://[::ffff:192.0.2.7]:8080": 422, "http://0.0.0.0:8080": 422, "http://[::]:8081": 422,
		"http://192.0.2.8:8080": 200, "http://192.0.2.7:8082": 200, "http://[2001:db8::8]:8081": 200,
	} {
		if status, answer := g.add(base); status != want {
			t.Errorf("%s answers %d %v, want %d", base, status, answer, want)
		}
	}
}

func TestTakesBaseURLsAsTheyAre(t *testing.T) {
	t.Parallel()
	g := content(t)
	conn := g.conn()
	for _, base := range []string{"https://p.example", "https://p.example/", "http://p.example:8080/v1", "https://[2001:db8::1]:8443/v1", "https://p.example/a/b?api-version=1&x=2", "https://p_q.example"} {
		status, answer := g.add(base)
		if status != 200 {
			t.Errorf("%s answers %d %v", base, status, answer)
			continue
		}
		if got := scalar[string](t, conn, "select base_url from providers order by id desc limit 1"); got != base {
			t.Errorf("%s is kept as %s", base, got)
		}
	}
}

func TestTakesTheHeadersThatProvidersUse(t *testing.T) {
	t.Parallel()
	g := content(t)
	conn := g.conn()
	for given, want := range map[string]string{"authorization": "authorization", "Authorization": "authorization", "X-API-Key": "x-api-key", "api-key": "api-key", "x-goog-api-key": "x-goog-api-key", "Ocp_Apim-Key1": "ocp_apim-key1"} {
		if status, answer := g.add("https://p.example", "auth_name", given, "auth_format", "{}"); status != 200 {
			t.Errorf("%s answers %d %v", given, status, answer)
		} else if got := scalar[string](t, conn, "select auth_header from providers order by id desc limit 1"); got != want {
			t.Errorf("%s is kept as %s", given, got)
		}
	}
}

// Setup adds a provider without a way to authenticate, which a first add_provider gives it.
func TestAProviderAuthenticatesInOneWay(t *testing.T) {
	t.Parallel()
	g := content(t)
	first := []string{"provider_name", "first"}
	with := func(name, format, key string) []string {
		return append(first, "auth_name", name, "auth_format", format, "api_key", key)
	}
	for _, c := range []struct {
		name, format, key string
		want              int
		credential        float64
	}{
		{"api-key", "{}", "sk-a", 200, 2},
		{"API-KEY", "{}", "sk-a", 200, 2},
		{"api-key", "{}", "sk-b", 200, 3},
		{"authorization", "Bearer {}", "sk-b", 409, 0},
		{"api-key", "Key {}", "sk-b", 409, 0},
	} {
		status, answer := g.add("https://first.example/v1", with(c.name, c.format, c.key)...)
		if status != c.want || status == 200 && (answer["provider-id"] != 1.0 || answer["api-id"] != c.credential) {
			t.Errorf("%+v answers %d %v", c, status, answer)
		}
	}
}

func TestACredentialOfSeveralProvidersIsAmbiguous(t *testing.T) {
	t.Parallel()
	g := content(t)
	if status, answer := g.add("https://other.example", "api_key", secret); status != 200 {
		t.Fatalf("it answers %d %v", status, answer)
	}
	status, answer := g.try("get_api_id", object{"api_key": secret})
	if text := message(t, answer); status != 409 || strings.Contains(text, secret) {
		t.Errorf("get_api_id answers %d %q", status, text)
	}
}

func TestConnectingNeedsADeployment(t *testing.T) {
	t.Parallel()
	g := content(t)
	_, answer := g.add("https://other.example")
	if status, answer := g.try("connect_model_api", object{"model_id": 1, "api_id": answer["api-id"]}); status != 404 || !strings.Contains(message(t, answer), "connect_model_provider") {
		t.Errorf("connect_model_api without a deployment answers %d %v", status, answer)
	}
	if status, answer := g.try("add_model", object{"name": "m", "endpoint": ""}); status != 409 || !strings.Contains(message(t, answer), `"m"`) {
		t.Errorf("a model's name again answers %d %v", status, answer)
	}
	if status, answer := g.try("add_profile", object{"profile_name": "default", "process_id": 1}); status != 409 {
		t.Errorf("a profile's name again answers %d %v", status, answer)
	}
}
