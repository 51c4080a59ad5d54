package api

import (
	"context"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// maxBatch bounds the keys of one batch.
const maxBatch = 2_000

// claimPath is where claim links lead.
const claimPath = "/claim/"

// BatchCreateApiKeys makes a key for each row, all or none.
func (s *apiKeyServer) BatchCreateApiKeys(ctx context.Context, r *adminv1.BatchCreateApiKeysRequest) (*adminv1.BatchCreateApiKeysResponse, error) {
	if t := r.GetTemplate(); t.GetSecret() != "" || t.GetSecretSha256() != "" {
		return nil, invalid("template.secret", "secrets are made when the links are opened: leave it out")
	}
	rows, err := readRows(r.GetCsv())
	if err != nil {
		return nil, err
	}
	answer := &adminv1.BatchCreateApiKeysResponse{}
	again := store.Repeat{RequestID: r.GetRequestId(), Digest: digest(r)}
	err = s.do(ctx, func(ctx context.Context, c *change) error {
		if err := c.repeated(ctx, again); err != nil {
			return err
		}
		until, err := c.claimEnd(ctx)
		if err != nil {
			return err
		}
		for _, row := range rows {
			link, err := c.unclaimed(ctx, fill(r.GetTemplate(), row.values), row.values["email"], until)
			if err != nil {
				return within(item("csv", row.line), err)
			}
			answer.Claims = append(answer.Claims, link)
		}
		return c.Remember(ctx, again, []byte("{}"))
	})
	if _, ok := store.AsRepeated(err); ok {
		return nil, &fieldError{"request_id", logos.Errorf(logos.Exists, "repeated", "these keys were made already, and their links are shown once: revoke the keys and make others if the links are lost")}
	}
	return answer, err
}

// claimEnd is until when links work that are made now.
func (c *change) claimEnd(ctx context.Context) (time.Time, error) {
	settings, err := decodeSettings(c.Settings(ctx))
	return time.Now().Add(settings.GetClaimLifetime().AsDuration()), err
}

// unclaimed makes a key whose secret nobody knows, and the link that hands it over.
func (c *change) unclaimed(ctx context.Context, m *adminv1.ApiKey, email string, until time.Time) (*adminv1.ClaimLink, error) {
	if err := c.ownerByMail(ctx, m, email); err != nil {
		return nil, err
	}
	if err := c.service.validate(m); err != nil {
		return nil, err
	}
	columns, err := keyColumns(ctx, c, m, nil)
	if err != nil {
		return nil, err
	}
	c.secret = ""
	columns["labels"] = labels(m)
	token := c.Unclaimed(columns, until)
	id, err := c.Insert(ctx, store.APIKeys, columns)
	if err != nil {
		return nil, err
	}
	link := &adminv1.ClaimLink{ApiKeyId: id, Name: m.GetName(), Email: email, Path: claimPath + string(token), ExpireTime: timestamppb.New(until)}
	return link, c.Created(ctx, store.APIKeys, id)
}

// ownerByMail makes the key that of the member with that address, if there is one.
func (c *change) ownerByMail(ctx context.Context, m *adminv1.ApiKey, email string) error {
	if email == "" || m.GetMember() != "" || m.GetMemberId() != 0 {
		return nil
	}
	id, err := c.find(ctx, reference{kind: store.Members, field: "member", name: email, called: "email"})
	if logos.KindOf(err) == logos.Invalid {
		return nil
	}
	m.MemberId = id
	return err
}

// A row is one of a CSV file: its values by column.
type row struct {
	line   int // of the file, from 1
	values map[string]string
}

func readRows(text string) ([]row, error) {
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	header, err := r.Read()
	if err != nil {
		return nil, invalid("csv", "must begin with a line of column names, like name,email")
	}
	var rows []row
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, invalid("csv", "%v", err)
		}
		if len(rows) == maxBatch {
			return nil, invalid("csv", "holds more than %d rows: split it", maxBatch)
		}
		line, _ := r.FieldPos(0)
		values := make(map[string]string, len(header))
		for i, name := range header {
			values[strings.TrimSpace(name)] = strings.TrimSpace(record[i])
		}
		rows = append(rows, row{line, values})
	}
	if len(rows) == 0 {
		return nil, invalid("csv", "holds no rows below the column names")
	}
	return rows, nil
}

// fill puts a row's values into a template.
func fill(template *adminv1.ApiKey, values map[string]string) *adminv1.ApiKey {
	m := proto.CloneOf(template)
	pairs := make([]string, 0, 2*len(values))
	for name, value := range values {
		pairs = append(pairs, "{"+name+"}", value)
	}
	with := strings.NewReplacer(pairs...)
	m.Name = with.Replace(m.GetName())
	for name, value := range m.GetLabels() {
		m.Labels[name] = with.Replace(value)
	}
	return m
}
