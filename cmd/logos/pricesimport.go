package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/billing/catalogue"
)

// An importPrices takes prices from a list, for the deployments that there are.
type importPrices struct {
	out                      io.Writer
	file                     *string
	builtin, approve, dryRun *bool
	maxChange                *int
	as                       map[string]string // how the list calls providers, by their names here
}

func newImportPrices(flags *flag.FlagSet, out io.Writer) importPrices {
	i := importPrices{out: out, as: make(map[string]string), file: flags.String("f", "", "the list"), builtin: flags.Bool("builtin", false, "the list that is built in")}
	i.approve = flags.Bool("approve", false, "also do what waits for a person")
	i.dryRun = flags.Bool("dry-run", false, "show what would change, and change nothing")
	i.maxChange = flags.Int("max-change", 20, "what a price may change by without approval, in per cent")
	flags.Func("as", "NAME=LISTED: what the list calls a provider whose address does not tell; may be given several times", func(text string) error {
		name, listed, ok := strings.Cut(text, "=")
		if i.as[name] = listed; !ok || name == "" || listed == "" {
			return errors.New("must be NAME=LISTED, like proxy=openai")
		}
		return nil
	})
	return i
}

func (i importPrices) run(ctx context.Context, c *client) error {
	list, err := i.list()
	if err != nil {
		return finalError{err}
	}
	prices, unlisted, err := c.listed(ctx, list, i.as)
	if err != nil {
		return err
	}
	r := &adminv1.ImportPricesRequest{Source: list.Name, Prices: prices, MaxChangePercent: proto.Int32(int32(*i.maxChange)), Approve: *i.approve, DryRun: *i.dryRun}
	answer := &adminv1.ImportPricesResponse{}
	if err := c.call(ctx, http.MethodPost, "/admin/v1/prices:import", r, answer); err != nil {
		return err
	}
	return i.report(answer, list.Name, unlisted)
}

// report writes what was done, or would be, and what to do next.
func (i importPrices) report(answer *adminv1.ImportPricesResponse, list string, unlisted []string) error {
	done := 0
	for _, x := range answer.GetChanges() {
		writePriceChange(i.out, x)
		if x.GetDone() {
			done++
		}
	}
	for _, d := range unlisted {
		fmt.Fprintf(i.out, "? %s: %s knows no price of it\n", d, list)
	}
	if len(unlisted) > 0 {
		fmt.Fprintln(i.out, "those with ? need prices of your own: logos prices unpriced says how")
	}
	held := answer.GetHeld()
	switch {
	case len(answer.GetChanges()) == 0:
		fmt.Fprintln(i.out, "nothing to do")
	case *i.dryRun:
		fmt.Fprintf(i.out, "nothing was changed: without --dry-run %d would be, and %d wait for a person\n", done, held)
	default:
		fmt.Fprintf(i.out, "%d done\n", done)
	}
	if held > 0 && !*i.dryRun {
		return finalError{fmt.Errorf("%d of the changes wait for a person: look at those with !, and do them with --approve", held)}
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
func (c *client) listed(ctx context.Context, list *catalogue.List, as map[string]string) (prices []*adminv1.Price, unlisted []string, err error) {
	providers, err := c.listedProviders(ctx, list, as)
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

// listedProviders returns how a list knows the providers that there are, by their ids.
func (c *client) listedProviders(ctx context.Context, list *catalogue.List, as map[string]string) (map[int64]catalogue.Provider, error) {
	providers, left := make(map[int64]catalogue.Provider), maps.Clone(as)
	err := c.each(ctx, "/admin/v1/providers", new(adminv1.ListProvidersResponse), func(page proto.Message) {
		for _, p := range page.(*adminv1.ListProvidersResponse).GetProviders() {
			known := catalogue.Provider{Dialect: logos.Dialect(p.GetDialect()), As: as[p.GetName()]}
			if u, err := url.Parse(p.GetBaseUrl()); err == nil {
				known.Host = u.Hostname()
			}
			providers[p.GetId()] = known
			delete(left, p.GetName())
		}
	})
	if err != nil {
		return nil, err
	}
	for name := range left {
		return nil, finalError{fmt.Errorf("--as: there is no provider %q", name)}
	}
	for _, listed := range as {
		if !list.Has(listed) {
			return nil, finalError{fmt.Errorf("--as: %s knows no provider %q", list.Name, listed)}
		}
	}
	return providers, nil
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
