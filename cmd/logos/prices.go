package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/billing/catalogue"
)

// findPrices returns what `logos prices` does.
func findPrices(what string, flags *flag.FlagSet, out io.Writer) command {
	online := func(do func(context.Context, *client) error) command {
		return func(ctx context.Context, _ *settings, _ *zap.Logger) error {
			c, err := newClient(os.Getenv)
			if err != nil {
				return err
			}
			return do(ctx, c)
		}
	}
	switch what {
	case "import":
		i := importPrices{out: out, file: flags.String("f", "", "the list"), builtin: flags.Bool("builtin", false, "the list that is built in")}
		i.approve = flags.Bool("approve", false, "also do what waits for a person")
		i.dryRun = flags.Bool("dry-run", false, "show what would change, and change nothing")
		i.maxChange = flags.Int("max-change", 20, "what a price may change by without approval, in per cent")
		return online(i.run)
	case "set":
		s := newSetPrices(flags, out)
		return online(s.run)
	case "unpriced":
		return online(func(ctx context.Context, c *client) error { return unpriced(ctx, c, out) })
	}
	return nil
}

// An importPrices takes prices from a list, for the deployments that there are.
type importPrices struct {
	out                      io.Writer
	file                     *string
	builtin, approve, dryRun *bool
	maxChange                *int
}

func (i importPrices) run(ctx context.Context, c *client) error {
	list, err := i.list()
	if err != nil {
		return finalError{err}
	}
	prices, unlisted, err := c.listed(ctx, list)
	if err != nil {
		return err
	}
	r := &adminv1.ImportPricesRequest{Source: list.Name, Prices: prices, MaxChangePercent: proto.Int32(int32(*i.maxChange)), Approve: *i.approve, DryRun: *i.dryRun}
	answer := &adminv1.ImportPricesResponse{}
	if err := c.call(ctx, http.MethodPost, "/admin/v1/prices:import", r, answer); err != nil {
		return err
	}
	for _, x := range answer.GetChanges() {
		writePriceChange(i.out, x)
	}
	if len(answer.GetChanges()) == 0 {
		fmt.Fprintln(i.out, "nothing to do")
	}
	for _, d := range unlisted {
		fmt.Fprintf(i.out, "? %s: %s knows no price of it\n", d, list.Name)
	}
	if answer.GetHeld() > 0 && !*i.dryRun {
		return finalError{fmt.Errorf("%d of the changes wait for a person: look at those with !, and do them with --approve", answer.GetHeld())}
	}
	return nil
}

func (i importPrices) list() (*catalogue.List, error) {
	if (*i.file == "") == !*i.builtin {
		return nil, errors.New("say which list: logos prices import FILE, or --builtin")
	}
	if *i.builtin {
		return catalogue.Builtin(), nil
	}
	f, err := os.Open(*i.file)
	if err != nil {
		return nil, fmt.Errorf("read the list: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDeclared))
	if err != nil {
		return nil, fmt.Errorf("read the list: %w", err)
	}
	return catalogue.Read(text, time.Now())
}

func writePriceChange(out io.Writer, x *adminv1.PriceChange) {
	sign := map[string]string{"create": "+", "change": "~", "remove": "-"}[x.GetAction()]
	what := x.GetAfter()
	if x.GetBefore() != "" && what != "" {
		what = x.GetBefore() + " -> " + what
	} else if what == "" {
		what = x.GetBefore()
	}
	if len(x.GetHeld()) > 0 {
		what += " ! " + strings.Join(x.GetHeld(), ", ")
	}
	fmt.Fprintf(out, "%s %s: %s\n", sign, x.GetName(), what)
}

// listed returns what a list says of the deployments that there are, and the names of those that it does not know.
func (c *client) listed(ctx context.Context, list *catalogue.List) (prices []*adminv1.Price, unlisted []string, err error) {
	providers := make(map[int64]catalogue.Provider)
	err = c.each(ctx, "/admin/v1/providers", new(adminv1.ListProvidersResponse), func(page proto.Message) {
		for _, p := range page.(*adminv1.ListProvidersResponse).GetProviders() {
			if u, err := url.Parse(p.GetBaseUrl()); err == nil {
				providers[p.GetId()] = catalogue.Provider{Dialect: logos.Dialect(p.GetDialect()), Host: u.Hostname()}
			}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	seen := make(map[string]bool)
	err = c.each(ctx, "/admin/v1/deployments", new(adminv1.ListDeploymentsResponse), func(page proto.Message) {
		for _, d := range page.(*adminv1.ListDeploymentsResponse).GetDeployments() {
			found, of := pricesOf(list, providers[d.GetProviderId()], d)
			switch {
			case seen[of]:
			case found == nil && providers[d.GetProviderId()].Known():
				unlisted = append(unlisted, of)
			}
			if !seen[of] {
				prices = append(prices, found...)
			}
			seen[of] = true
		}
	})
	return prices, unlisted, err
}

// pricesOf returns what a list says of a deployment's model, under the provider's name for it or else, as where names
// are the operator's, under the model's own.
func pricesOf(list *catalogue.List, p catalogue.Provider, d *adminv1.Deployment) (prices []*adminv1.Price, of string) {
	theirs := d.GetProviderModel()
	if theirs == "" {
		theirs = d.GetModel()
	}
	found, name := list.Find(p, theirs, d.GetModel())
	for _, x := range found {
		m := &adminv1.Price{
			Provider: d.GetProvider(), Meter: string(x.Meter), Amount: x.Amount.String(), Unit: x.Unit, Currency: x.Currency,
			ServiceTier: x.ServiceTier, ContextFrom: x.ContextFrom, ContextTo: x.ContextTo,
		}
		if name == theirs {
			m.ProviderModel = theirs
		} else {
			m.Model = d.GetModel()
		}
		prices = append(prices, m)
	}
	return prices, d.GetProvider() + "/" + theirs
}

// each reads a list page by page.
func (c *client) each(ctx context.Context, path string, page proto.Message, f func(proto.Message)) error {
	for token := ""; ; {
		proto.Reset(page)
		if err := c.call(ctx, http.MethodGet, path+"?page_size=1000&page_token="+url.QueryEscape(token), nil, page); err != nil {
			return err
		}
		f(page)
		if token = page.(interface{ GetNextPageToken() string }).GetNextPageToken(); token == "" {
			return nil
		}
	}
}

// A setPrices declares an operator's own prices.
type setPrices struct {
	out                                                        io.Writer
	provider, model, providerModel, deployment, currency, from *string
	amounts                                                    map[logos.Meter]*string
}

func newSetPrices(flags *flag.FlagSet, out io.Writer) setPrices {
	s := setPrices{out: out, amounts: make(map[logos.Meter]*string), provider: flags.String("provider", "", "the provider's name")}
	s.model = flags.String("model", "", "the model's name; empty: all of the provider")
	s.providerModel = flags.String("provider-model", "", "in the place of model: what the provider calls it")
	s.deployment = flags.String("deployment", "", "the name of one deployment of the model")
	s.currency = flags.String("currency", "", "of the amounts, like EUR")
	s.from = flags.String("from", "", "since when: now, or a time like 2027-01-01T00:00:00Z; empty: always")
	for _, m := range logos.Meters {
		s.amounts[m] = flags.String(strings.ReplaceAll(string(m), "_", "-"), "", "amount for a million tokens, or for one image or request")
	}
	return s
}

func (s setPrices) run(ctx context.Context, c *client) error {
	prices, err := s.prices(time.Now())
	if err != nil {
		return finalError{err}
	}
	answer, err := c.apply(ctx, &declaration{configuration: &adminv1.Configuration{Prices: prices}}, false, false)
	if err == nil {
		writePlan(s.out, answer.GetChanges(), false)
	}
	return err
}

// prices are named as the gateway names prices that have no name, so that the same one is corrected.
func (s setPrices) prices(now time.Time) (prices []*adminv1.Price, err error) {
	from, suffix, err := s.since(now)
	if err != nil {
		return nil, err
	}
	for _, m := range logos.Meters {
		if *s.amounts[m] == "" {
			continue
		}
		parts := slices.DeleteFunc([]string{*s.provider, *s.model + *s.providerModel, *s.deployment, string(m)}, func(p string) bool { return p == "" })
		prices = append(prices, &adminv1.Price{
			Name: strings.Join(parts, "/") + suffix, Provider: *s.provider, Model: *s.model, ProviderModel: *s.providerModel, Deployment: *s.deployment,
			Meter: string(m), Amount: *s.amounts[m], Currency: *s.currency, ValidFrom: from,
		})
	}
	if len(prices) == 0 || *s.provider == "" || *s.currency == "" {
		return nil, errors.New("say of which provider, in which currency and how much: logos prices set --provider NAME --model NAME --currency EUR --input 2.50 --output 10")
	}
	return prices, nil
}

func (s setPrices) since(now time.Time) (from *timestamppb.Timestamp, suffix string, err error) {
	if *s.from == "" {
		return nil, "", nil
	}
	at := now.Truncate(time.Second)
	if *s.from != "now" {
		if at, err = time.Parse(time.RFC3339, *s.from); err != nil {
			return nil, "", errors.New("--from must be now, or a time like 2027-01-01T00:00:00Z")
		}
	}
	return timestamppb.New(at), " from " + at.UTC().Format(time.RFC3339Nano), nil
}

// unpriced writes what calls of which cost is not known, with the commands that would change that.
func unpriced(ctx context.Context, c *client, out io.Writer) error {
	answer := &adminv1.ListUnpricedDeploymentsResponse{}
	if err := c.call(ctx, http.MethodGet, "/admin/v1/prices:unpriced", nil, answer); err != nil {
		return err
	}
	if len(answer.GetDeployments()) == 0 {
		fmt.Fprintln(out, "everything has a price")
	}
	for _, d := range answer.GetDeployments() {
		fmt.Fprintf(out, "%s/%s/%s has no price of %s:\n  %s\n", d.GetProvider(), d.GetModel(), d.GetName(), strings.Join(d.GetMissing(), " and "), d.GetCommand())
	}
	return nil
}
