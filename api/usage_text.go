package api

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
)

// Types of answers that are no JSON documents; answers that have no such form stay JSON.
const (
	typeCSV    = "text/csv"
	typeNDJSON = "application/x-ndjson"
)

// A tableMarshaler writes usage as CSV for whoever accepts that.
type tableMarshaler struct{ runtime.Marshaler }

func (m tableMarshaler) ContentType(v any) string {
	if tableOf(v) == nil {
		return m.Marshaler.ContentType(v)
	}
	return typeCSV + "; charset=utf-8"
}

func (m tableMarshaler) Marshal(v any) ([]byte, error) {
	rows := tableOf(v)
	if rows == nil {
		return m.Marshaler.Marshal(v)
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.WriteAll(rows); err != nil {
		return nil, fmt.Errorf("write CSV: %w", err)
	}
	return b.Bytes(), nil
}

func (m tableMarshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error { return write(m, w, v) })
}

// tableOf returns what a table holds, its head first; nil: the message is none.
func tableOf(v any) [][]string {
	switch m := v.(type) {
	case *adminv1.SummarizeUsageResponse:
		return summaryTable(m)
	case *adminv1.Statement:
		return statementTable(m)
	}
	return nil
}

var dimensionColumns = []string{"start", "team", "project", "api_key", "profile", "model", "provider", "deployment", "api", "end_reason", "service_tier", "end_user"}

// summaryTable has one line for each group, currency and meter; the lines without a meter are of all of them.
func summaryTable(m *adminv1.SummarizeUsageResponse) [][]string {
	out := [][]string{append(slices.Clone(dimensionColumns), "calls", "attempts", "unpriced_calls", "meter", "quantity", "estimated", "unpriced", "currency", "amount", "adjustments")}
	for _, r := range m.GetRows() {
		group := []string{
			timeCell(r.GetStart()), label(r.GetTeam(), r.GetTeamId()), label(r.GetProject(), r.GetProjectId()), label(r.GetApiKey(), r.GetApiKeyId()), label(r.GetProfile(), r.GetProfileId()),
			label(r.GetModel(), r.GetModelId()), label(r.GetProvider(), r.GetProviderId()), label(r.GetDeployment(), r.GetDeploymentId()), cell(r.GetApi()), cell(r.GetEndReason()), cell(r.GetServiceTier()), cell(r.GetEndUser()),
		}
		out = append(out, usageLines(group, r)...)
	}
	return out
}

// usageLines are the lines of one group.
func usageLines(group []string, r *adminv1.UsageRow) (out [][]string) {
	counts := []string{count(r.GetCalls()), count(r.GetAttempts()), count(r.GetUnpricedCalls()), "", "", "", ""}
	for _, c := range costsOrNone(r.GetCosts()) {
		out = append(out, slices.Concat(group, counts, []string{c.GetCurrency(), c.GetAmount(), c.GetAdjustments()}))
		counts = []string{"", "", "", "", "", "", ""} // said once
	}
	for _, m := range r.GetMeters() {
		used := []string{"", "", "", m.GetMeter(), m.GetQuantity(), m.GetEstimated(), m.GetUnpriced()}
		for _, c := range costsOrNone(m.GetCosts()) {
			out = append(out, slices.Concat(group, used, []string{c.GetCurrency(), c.GetAmount(), ""}))
			used = []string{"", "", "", m.GetMeter(), "", "", ""}
		}
	}
	return out
}

// costsOrNone has a line also for what was not charged.
func costsOrNone(costs []*adminv1.UsageCost) []*adminv1.UsageCost {
	if len(costs) == 0 {
		return []*adminv1.UsageCost{{}}
	}
	return costs
}

// statementTable has the usage of each model and meter, then corrections, then the total.
func statementTable(s *adminv1.Statement) [][]string {
	out := [][]string{{"line", "month", "team", "project", "model", "provider", "calls", "attempts", "unpriced_calls", "meter", "quantity", "estimated", "unpriced", "currency", "amount", "adjustments", "time", "reason", "call_id"}}
	of := []string{s.GetMonth(), label(s.GetTeam(), s.GetTeamId()), label(s.GetProject(), s.GetProjectId())}
	add := func(kind string, of []string, r *adminv1.UsageRow) {
		for _, line := range usageLines(nil, r) {
			out = append(out, slices.Concat([]string{kind}, of, line, []string{"", "", ""}))
		}
	}
	for _, r := range s.GetLines() {
		add("usage", slices.Concat(of, []string{label(r.GetModel(), r.GetModelId()), label(r.GetProvider(), r.GetProviderId())}), r)
	}
	for _, c := range s.GetCorrections() {
		out = append(out, slices.Concat([]string{c.GetKind()}, of, []string{"", "", "", "", "", "", "", "", "", c.GetCurrency(), c.GetAmount(), "", timeCell(c.GetTime()), cell(c.GetReason()), c.GetCallId()}))
	}
	add("total", slices.Concat(of, []string{"", ""}), s.GetTotal())
	return out
}

// label writes what has a name and an id; what has no name by its id.
func label(name string, id int64) string {
	if name == "" && id != 0 {
		return count(id)
	}
	return cell(name)
}

func count(n int64) string { return strconv.FormatInt(n, 10) }

func timeCell(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format(time.RFC3339)
}

// cell keeps spreadsheets from reading a name as a formula.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// A lineMarshaler writes usage events as lines of JSON, for whoever accepts that. The last line has the token.
type lineMarshaler struct{ runtime.Marshaler }

func (m lineMarshaler) ContentType(v any) string {
	if _, ok := v.(*adminv1.ExportUsageResponse); !ok {
		return m.Marshaler.ContentType(v)
	}
	return typeNDJSON
}

func (m lineMarshaler) Marshal(v any) ([]byte, error) {
	page, ok := v.(*adminv1.ExportUsageResponse)
	if !ok {
		return m.Marshaler.Marshal(v)
	}
	var b bytes.Buffer
	for _, e := range page.GetEvents() {
		if err := m.line(&b, e); err != nil {
			return nil, err
		}
	}
	err := m.line(&b, map[string]any{"next_page_token": page.GetNextPageToken(), "end": page.GetEnd()})
	return b.Bytes(), err
}

func (m lineMarshaler) line(b *bytes.Buffer, v any) error {
	text, err := m.Marshaler.Marshal(v)
	if err == nil {
		b.Write(text)
		b.WriteByte('\n')
	}
	return err
}

func (m lineMarshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error { return write(m, w, v) })
}

func write(m runtime.Marshaler, w io.Writer, v any) error {
	b, err := m.Marshal(v)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}
