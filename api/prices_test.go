package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// priced makes a gateway with a provider, a model and a deployment of it.
func priced(t *testing.T) (*gateway, client) {
	t.Helper()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	root.make("providers", object{"name": "p", "base_url": "https://p.example"})
	root.make("models", object{"name": "m"})
	root.make("deployments", object{"provider": "p", "model": "m", "provider_model": "theirs"})
	return g, root
}

func TestAPriceIsNamedByWhatItIsOf(t *testing.T) {
	t.Parallel()
	_, root := priced(t)
	root.make("deployments", object{"provider": "p", "model": "m", "name": "second"})
	for name, more := range map[string]object{
		"p/input": {}, "p/m/input": {"model": "m"}, "p/theirs/input/flex 5-": {"provider_model": "theirs", "service_tier": "flex", "context_from": 5},
		"p/output from 2026-01-01T00:00:00Z (list)": {"meter": "output", "valid_from": "2026-01-01T00:00:00Z", "source": "list"}, "mine": {"name": "mine", "meter": "image"},
	} {
		price := object{"provider": "p", "meter": "input", "amount": "2.50", "currency": "EUR"}
		for k, v := range more {
			price[k] = v
		}
		got := root.make("prices", price)
		unit := "1000000"
		if price["meter"] == "image" {
			unit = "1"
		}
		if got["name"] != name || got["amount"] != "2.5" || got["unit"] != unit {
			t.Errorf("%v is %v", name, got)
		}
	}
	one := root.make("prices", object{"provider": "p", "model": "m", "deployment": "second", "meter": "input", "amount": "1", "currency": "EUR"})
	if one["deployment"] != "second" || one["model"] != "m" {
		t.Errorf("the deployment's price is %v", one)
	}
}

func TestAPriceThatSaysTooLittleOrTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	_, root := priced(t)
	for field, more := range map[string]object{
		"provider": {"provider": ""}, "model": {"model": "m", "provider_model": "theirs"}, "context_to": {"context_from": 5, "context_to": 4}, "unit": {"unit": 10},
		"service_tier": {"service_tier": "default"}, "valid_to": {"valid_from": "2026-01-02T00:00:00Z", "valid_to": "2026-01-01T00:00:00Z"},
		"deployment": {"model": "m", "deployment_id": 1}, "amount": {"amount": "-1"}, "currency": {"currency": "euro"}, "meter": {"meter": "tea"},
	} {
		price := object{"provider": "p", "meter": "input", "amount": "2.50", "currency": "EUR"}
		for k, v := range more {
			price[k] = v
		}
		status, answer := root.do("POST", "/admin/v1/prices", price)
		if status != 400 || !names(answer, "price."+field) {
			t.Errorf("%s: %d %v", field, status, answer)
		}
	}
}

func TestACorrectionKeepsWhatWasBelieved(t *testing.T) {
	t.Parallel()
	_, root := priced(t)
	price := root.make("prices", object{"provider": "p", "meter": "input", "amount": "2.50", "currency": "EUR"})
	root.patch("prices", price, object{"amount": "2.40"})
	root.patch("prices", price, object{"labels": object{"a": "b"}})
	root.patch("prices", price, object{"amount": "2.4"}) // as it is
	var got []string
	for _, v := range root.list("priceVersions", "?filter=id%3D"+price["id"].(string)) {
		got = append(got, v["amount"].(string))
		if v["record_time"] == nil {
			t.Errorf("nobody knows when %v was believed", v)
		}
	}
	if want := []string{"2.4", "2.5"}; !slices.Equal(got, want) {
		t.Errorf("the versions are %v, want %v", got, want)
	}
}

func TestUnpricedDeploymentsAreNamedWithTheirCommand(t *testing.T) {
	t.Parallel()
	_, root := priced(t)
	root.make("models", object{"name": "it's"})
	root.make("deployments", object{"provider": "p", "model": "it's", "apis": []string{"embeddings"}})
	unpriced := func() (out []string) {
		_, answer := root.do("GET", "/admin/v1/prices:unpriced", nil)
		for _, d := range answer["deployments"].([]any) {
			out = append(out, fmt.Sprint(d.(object)["missing"], " ", d.(object)["command"]))
		}
		return out
	}
	want := []string{
		"[input output] logos prices set --provider p --model m --currency EUR --input AMOUNT --output AMOUNT",
		`[input] logos prices set --provider p --model 'it'\''s' --currency EUR --input AMOUNT`,
	}
	if diff := cmp.Diff(want, unpriced()); diff != "" {
		t.Errorf("without prices (-want +got):\n%s", diff)
	}
	root.make("prices", object{"provider": "p", "provider_model": "theirs", "meter": "input", "amount": "0", "currency": "USD"})
	want[0] = "[output] logos prices set --provider p --model m --currency USD --output AMOUNT"
	if diff := cmp.Diff(want, unpriced()); diff != "" {
		t.Errorf("with one (-want +got):\n%s", diff)
	}
	root.make("prices", object{"provider": "p", "meter": "input", "amount": "0", "currency": "USD"})
	root.make("prices", object{"provider": "p", "meter": "output", "amount": "0", "currency": "USD"})
	if got := unpriced(); got != nil {
		t.Errorf("0 is a price, and there are %v", got)
	}
}

// An importer imports what a list says.
type importer struct {
	*testing.T
	client
}

func (i importer) run(more object, prices ...object) (changes []string, answer object) {
	i.Helper()
	request := object{"source": "list", "prices": prices}
	for k, v := range more {
		request[k] = v
	}
	status, answer := i.do("POST", "/admin/v1/prices:import", request)
	if status != 200 {
		i.Fatalf("the import answers %d %v", status, answer)
	}
	for _, c := range answer["changes"].([]any) {
		x := c.(object)
		changes = append(changes, strings.TrimSpace(fmt.Sprintf("%v %v>%v %v %v", x["action"], x["before"], x["after"], x["held"], x["done"])))
	}
	return changes, answer
}

func TestAnImportWaitsForAPersonWhereItIsOdd(t *testing.T) {
	t.Parallel()
	g, root := priced(t)
	list := importer{t, root}
	price := func(meter, amount string) object {
		return object{"provider": "p", "provider_model": "theirs", "meter": meter, "amount": amount, "currency": "USD"}
	}
	step := func(what string, more object, prices []object, want ...string) object {
		t.Helper()
		got, answer := list.run(more, prices...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		return answer
	}
	first := []object{price("input", "2.5"), price("output", "10"), price("cached_input", "0")}
	dry := step("a dry run", object{"dry_run": true}, first, "create >2.5 USD per 1000000 [] true", "create >10 USD per 1000000 [] true", "create >0 USD per 1000000 [zero] false")
	if dry["revision"] != "0" || len(root.list("prices", "")) != 0 {
		t.Errorf("a dry run changes something: %v", dry)
	}
	step("the first", nil, first, "create >2.5 USD per 1000000 [] true", "create >10 USD per 1000000 [] true", "create >0 USD per 1000000 [zero] false")
	if answer := step("again", nil, first, "create >0 USD per 1000000 [zero] false"); answer["revision"] != "0" || answer["held"] != 1.0 {
		t.Errorf("nothing was done, and the answer is %v", answer)
	}
	next := []object{price("input", "2.6"), price("output", "0.01")}
	step("a change", nil, next, "change 2.5 USD per 1000000>2.6 USD per 1000000 [] true", "change 10 USD per 1000000>0.01 USD per 1000000 [change unit] false")
	step("approved", object{"approve": true}, next, "change 10 USD per 1000000>0.01 USD per 1000000 [change unit] true")
	step("a removal", nil, next[:1], "remove 0.01 USD per 1000000> [removal] false")
	step("that is approved", object{"approve": true}, next[:1], "remove 0.01 USD per 1000000> [removal] true")
	step("what comes back", nil, next, "create >0.01 USD per 1000000 [] true")
	step("a limit of its own", object{"max_change_percent": 100}, []object{price("input", "5"), next[1]}, "change 2.6 USD per 1000000>5 USD per 1000000 [] true")
	// Everything that was is still there, with its time, and has its events.
	all := root.list("prices", "?page_size=100")
	ended := 0
	for _, p := range all {
		if p["valid_to"] != nil {
			ended++
		}
		if p["source"] != "list" || p["import_time"] == nil {
			t.Errorf("it does not say where it is from: %v", p)
		}
	}
	if len(all) != 6 || ended != 4 {
		t.Errorf("there are %d prices, %d of them ended", len(all), ended)
	}
	if n := scalar[int64](t, g.conn(), "select count(*) from audit_events where kind = 'price' and method = 'ImportPrices'"); n != 10 {
		t.Errorf("there are %d events", n)
	}
}

func TestPricesAreDeclared(t *testing.T) {
	t.Parallel()
	_, root := priced(t)
	root.make("prices", object{"provider": "p", "model": "m", "meter": "input", "amount": "2.50", "currency": "EUR", "valid_to": "2027-01-01T00:00:00Z"})
	_, exported := root.do("GET", "/admin/v1/configuration", nil)
	list := exported["prices"].([]any)
	if len(list) != 1 || list[0].(object)["amount"] != "2.5" || list[0].(object)["provider_id"] != "0" {
		t.Fatalf("exported is %v", list)
	}
	apply := func(prices any) (changes []any) {
		t.Helper()
		status, answer := root.do("POST", "/admin/v1/configuration:apply", object{"configuration": object{"prices": prices}})
		if status != 200 {
			t.Fatalf("apply answers %d %v", status, answer)
		}
		return answer["changes"].([]any)
	}
	if got := apply(list); len(got) != 0 {
		t.Errorf("what was exported changes %v", got)
	}
	declared := object{"name": "p/m/input", "provider": "p", "model": "m", "meter": "input", "amount": "2.50", "currency": "EUR", "valid_to": "2027-01-01T00:00:00Z"}
	if got := apply([]object{declared}); len(got) != 0 {
		t.Errorf("the same written otherwise changes %v", got)
	}
	declared["amount"] = "3"
	if got := apply([]object{declared}); len(got) != 1 {
		t.Errorf("another amount changes %v", got)
	}
}

// A declaration that leaves a price without a name means the one that is named by what it is of.
func TestADeclaredPriceNeedsNoName(t *testing.T) {
	t.Parallel()
	_, root := priced(t)
	declare := func(amount string) object {
		return root.must("POST", apply, object{"configuration": object{"prices": []object{
			{"provider": "p", "model": "m", "meter": "input", "amount": amount, "currency": "EUR"},
			{"provider": "p", "meter": "output", "amount": "3", "currency": "EUR"},
		}}})
	}
	if changes, _ := declare("2")["changes"].([]any); len(changes) != 2 {
		t.Errorf("a first declaration changes %v", changes)
	}
	if changes, _ := declare("2.0")["changes"].([]any); len(changes) != 0 {
		t.Errorf("the same again changes %v", changes)
	}
	changes, _ := declare("1")["changes"].([]any)
	if len(changes) != 1 || changes[0].(object)["name"] != "p/m/input" {
		t.Errorf("another amount changes %v", changes)
	}
	_, exported := root.do("GET", "/admin/v1/configuration", nil)
	if answer := root.must("POST", apply, object{"configuration": exported}); len(answer["changes"].([]any)) != 0 {
		t.Errorf("what is exported changes %v", answer["changes"])
	}
	of := object{"provider": "p", "meter": "output", "amount": "4", "currency": "EUR"}
	for field, prices := range map[string][]object{
		"configuration.prices[1]": {of, of}, "configuration.prices[0].provider": {{"meter": "output", "amount": "4", "currency": "EUR"}},
	} {
		if status, answer := root.do("POST", apply, object{"configuration": object{"prices": prices}}); status != 400 || !strings.HasPrefix(answer["message"].(string), field+":") {
			t.Errorf("%s: %d %v", field, status, answer)
		}
	}
}
