package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
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
		i := newImportPrices(flags, out)
		return online(i.run)
	case "set":
		s := newSetPrices(flags, out)
		return online(s.run)
	case "unpriced":
		return online(func(ctx context.Context, c *client) error { return unpriced(ctx, c, out) })
	}
	return nil
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
		s.amounts[m] = flags.String(strings.ReplaceAll(string(m), "_", "-"), "", "amount for a million tokens, or for one image, web search or request")
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

// prices have no names: they get those that tell what they are of, so that saying one again corrects it.
func (s setPrices) prices(now time.Time) (prices []*adminv1.Price, err error) {
	from, err := s.since(now)
	if err != nil {
		return nil, err
	}
	for _, m := range logos.Meters {
		if *s.amounts[m] == "" {
			continue
		}
		prices = append(prices, &adminv1.Price{
			Provider: *s.provider, Model: *s.model, ProviderModel: *s.providerModel, Deployment: *s.deployment,
			Meter: string(m), Amount: *s.amounts[m], Currency: *s.currency, ValidFrom: from,
		})
	}
	if len(prices) == 0 || *s.provider == "" || *s.currency == "" {
		return nil, errors.New("say of which provider, in which currency and how much: logos prices set --provider NAME --model NAME --currency EUR --input 2.50 --output 10")
	}
	return prices, nil
}

func (s setPrices) since(now time.Time) (*timestamppb.Timestamp, error) {
	switch *s.from {
	case "":
		return nil, nil
	case "now":
		return timestamppb.New(now.Truncate(time.Second)), nil
	}
	at, err := time.Parse(time.RFC3339, *s.from)
	if err != nil {
		return nil, errors.New("--from must be now, or a time like 2027-01-01T00:00:00Z")
	}
	return timestamppb.New(at), nil
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
