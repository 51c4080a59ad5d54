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
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
)

// maxDeclared bounds a declaration, in bytes.
const maxDeclared = 64 << 20

// export writes all resources as YAML, which apply reads.
func export(ctx context.Context, out io.Writer) error {
	c, err := newClient(os.Getenv)
	if err != nil {
		return err
	}
	all := &adminv1.Configuration{}
	if err := c.call(ctx, http.MethodGet, "/admin/v1/configuration", nil, all); err != nil {
		return err
	}
	text, err := writeYAML(all)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// writeYAML writes a configuration in the order of its protos, with references in the place of secrets.
func writeYAML(all *adminv1.Configuration) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encode the configuration: %w", err)
	}
	var doc yaml.Node // JSON is YAML, and a node keeps the order of its members
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("encode the configuration: %w", err)
	}
	block(&doc)
	for _, list := range []struct{ name, owner string }{{"credentials", "provider"}, {"api_keys", "project"}} {
		for _, item := range items(&doc, list.name) {
			reference := &yaml.Node{}
			if err := reference.Encode(map[string]string{"env": variable(value(item, list.owner), value(item, "name"))}); err != nil {
				return nil, fmt.Errorf("encode the configuration: %w", err)
			}
			item.Content = append(item.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "secret"}, reference)
		}
	}
	var b bytes.Buffer
	b.WriteString("# Secrets are references: {env: NAME} or {file: PATH}. One that is not set keeps what the gateway has.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&doc); err != nil {
		return nil, fmt.Errorf("encode the configuration: %w", err)
	}
	return b.Bytes(), nil
}

// block writes mappings and sequences over several lines, and scalars as plainly as they can be.
func block(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		block(child)
	}
}

var notInVariable = regexp.MustCompile(`[^A-Z0-9]+`)

// variable is the environment variable in which a secret is looked for.
func variable(parts ...string) string {
	return "LOGOS_SECRET_" + strings.Trim(notInVariable.ReplaceAllString(strings.ToUpper(strings.Join(parts, "_")), "_"), "_")
}

// items returns the mappings of a list at the top of a document.
func items(doc *yaml.Node, name string) []*yaml.Node {
	if len(doc.Content) == 0 {
		return nil
	}
	list := member(doc.Content[0], name)
	if list == nil {
		return nil
	}
	return list.Content
}

func member(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; mapping.Kind == yaml.MappingNode && i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func value(mapping *yaml.Node, name string) string {
	if n := member(mapping, name); n != nil {
		return n.Value
	}
	return ""
}

// A declaration is a file with its secrets filled in.
type declaration struct {
	configuration *adminv1.Configuration
	missing       map[string]string // what a secret is of -> the reference that leads to none
}

// readYAML reads a declaration. get and file find secrets.
func readYAML(text []byte, get func(string) (string, bool), file func(string) ([]byte, error)) (*declaration, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("it is no YAML: %w", err)
	}
	d := &declaration{configuration: &adminv1.Configuration{}, missing: make(map[string]string)}
	for _, list := range []struct{ name, kind, owner string }{{"credentials", "credential", "provider"}, {"api_keys", "api_key", "project"}} {
		for _, item := range items(&doc, list.name) {
			name := list.kind + " " + value(item, list.owner) + "/" + value(item, "name")
			if err := d.resolve(item, name, get, file); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	var plain any
	if err := doc.Decode(&plain); err != nil {
		return nil, fmt.Errorf("it is no YAML: %w", err)
	}
	if plain == nil {
		return nil, errors.New("it is empty")
	}
	encoded, err := json.Marshal(plain)
	if err != nil {
		return nil, fmt.Errorf("it must be mappings and lists: %w", err)
	}
	if err := protojson.Unmarshal(encoded, d.configuration); err != nil {
		return nil, fmt.Errorf("it is no configuration: %s", strings.TrimPrefix(err.Error(), "proto:"))
	}
	return d, nil
}

// resolve puts the secret in the place of its reference.
func (d *declaration) resolve(item *yaml.Node, name string, get func(string) (string, bool), file func(string) ([]byte, error)) error {
	secret := member(item, "secret")
	if secret == nil || secret.Kind != yaml.MappingNode {
		return nil
	}
	var reference struct{ Env, File string }
	if err := secret.Decode(&reference); err != nil || (reference.Env == "") == (reference.File == "") {
		return errors.New("secret must be {env: NAME} or {file: PATH}")
	}
	found, ok := get(reference.Env)
	if reference.File != "" {
		content, err := file(reference.File)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read its secret: %w", err)
		}
		found, ok = strings.TrimSpace(string(content)), err == nil
	}
	if !ok {
		d.missing[name] = reference.Env + reference.File
	}
	*secret = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: found}
	return nil
}

// declared is what the command apply is given.
type declared struct {
	path          *string
	dryRun, prune *bool
}

// apply makes the resources what a file says.
func (d declared) apply(ctx context.Context, in io.Reader, out io.Writer) error {
	if *d.path == "" {
		return finalError{errors.New("say which file: logos apply -f FILE")}
	}
	text, err := readDeclared(*d.path, in)
	if err != nil {
		return finalError{err}
	}
	wanted, err := readYAML(text, os.LookupEnv, os.ReadFile)
	if err != nil {
		return finalError{fmt.Errorf("%s: %w", *d.path, err)}
	}
	c, err := newClient(os.Getenv)
	if err != nil {
		return err
	}
	answer, err := c.apply(ctx, wanted, *d.dryRun, *d.prune)
	if err != nil {
		return err
	}
	writePlan(out, answer.GetChanges(), *d.dryRun)
	return nil
}

func readDeclared(path string, in io.Reader) ([]byte, error) {
	if path != "-" {
		return os.ReadFile(path)
	}
	return io.ReadAll(io.LimitReader(in, maxDeclared))
}

// apply asks what would change first: a resource that is new needs its secret.
func (c *client) apply(ctx context.Context, d *declaration, dryRun, prune bool) (*adminv1.ApplyConfigurationResponse, error) {
	const path = "/admin/v1/configuration:apply"
	plan := &adminv1.ApplyConfigurationResponse{}
	if err := c.call(ctx, http.MethodPost, path, &adminv1.ApplyConfigurationRequest{Configuration: d.configuration, DryRun: true, Prune: prune}, plan); err != nil {
		return nil, err
	}
	var lacking []string
	for _, x := range plan.GetChanges() {
		name := x.GetKind() + " " + x.GetName()
		if reference, ok := d.missing[name]; ok && x.GetAction() == "create" {
			lacking = append(lacking, name+" ("+reference+")")
		}
	}
	if len(lacking) > 0 {
		slices.Sort(lacking)
		return nil, finalError{fmt.Errorf("these are new and need their secrets, which are not there: %s", strings.Join(lacking, ", "))}
	}
	if dryRun || len(plan.GetChanges()) == 0 {
		return plan, nil
	}
	done := &adminv1.ApplyConfigurationResponse{}
	err := c.call(ctx, http.MethodPost, path, &adminv1.ApplyConfigurationRequest{Configuration: d.configuration, Prune: prune}, done)
	return done, err
}

var actionSigns = map[string]string{"create": "+", "update": "~", "delete": "-"}

// writePlan shows changes to a person.
func writePlan(out io.Writer, changes []*adminv1.Change, dryRun bool) {
	counts := make(map[string]int)
	for _, x := range changes {
		counts[x.GetAction()]++
		fmt.Fprintf(out, "%s %s %s\n", actionSigns[x.GetAction()], x.GetKind(), x.GetName())
		for _, f := range x.GetFields() {
			if x.GetAction() == "update" {
				fmt.Fprintf(out, "    %s: %s -> %s\n", f.GetField(), orNothing(f.GetBefore()), orNothing(f.GetAfter()))
			} else {
				fmt.Fprintf(out, "    %s: %s\n", f.GetField(), f.GetAfter())
			}
		}
	}
	summary := fmt.Sprintf("%d created, %d updated, %d deleted", counts["create"], counts["update"], counts["delete"])
	switch {
	case len(changes) == 0:
		fmt.Fprintln(out, "Nothing to change.")
	case dryRun:
		fmt.Fprintf(out, "\nWould be: %s. Nothing was changed.\n", summary)
	default:
		fmt.Fprintf(out, "\n%s.\n", summary)
	}
}

func orNothing(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}
