package api

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// adjustmentServer corrects what calls cost.
type adjustmentServer struct {
	adminv1.UnimplementedAdjustmentServiceServer
	*Service
}

func (s *adjustmentServer) GetAdjustment(ctx context.Context, r *adminv1.GetAdjustmentRequest) (*adminv1.Adjustment, error) {
	doc, err := s.store.Get(ctx, store.Adjustments, callerOf(ctx).scope, r.GetId())
	if err != nil {
		return nil, err
	}
	return decode[*adminv1.Adjustment](doc)
}

func (s *adjustmentServer) ListAdjustments(ctx context.Context, r *adminv1.ListAdjustmentsRequest) (*adminv1.ListAdjustmentsResponse, error) {
	items, next, err := list[*adminv1.Adjustment](ctx, s.Service, store.Adjustments, r)
	return &adminv1.ListAdjustmentsResponse{Adjustments: items, NextPageToken: next}, err
}

func (s *adjustmentServer) CreateAdjustment(ctx context.Context, r *adminv1.CreateAdjustmentRequest) (*adminv1.Adjustment, error) {
	m := r.GetAdjustment()
	j, err := wantedAdjustment(m)
	if err != nil {
		return nil, inside("adjustment", err)
	}
	again := store.Repeat{RequestID: r.GetRequestId(), Digest: digest(m)}
	var doc json.RawMessage
	err = s.do(ctx, func(ctx context.Context, c *change) error {
		if err := c.repeated(ctx, again); err != nil {
			return err
		}
		id, err := c.Adjust(ctx, logos.CallID(m.GetCallId()), j)
		if err != nil {
			return inside("adjustment", aboutAdjustment(err))
		}
		if doc, err = c.Get(ctx, store.Adjustments, store.Scope{}, id); err != nil {
			return err
		}
		return c.Remember(ctx, again, doc)
	})
	if first, ok := store.AsRepeated(err); ok {
		doc, err = first, nil
	}
	if err != nil {
		return nil, err
	}
	return decode[*adminv1.Adjustment](doc)
}

// wantedAdjustment reads an adjustment that keeps to the rules of its proto.
func wantedAdjustment(m *adminv1.Adjustment) (j store.Adjustment, err error) {
	amount, err := decimal.NewFromString(m.GetAmount())
	if err != nil || amount.IsZero() {
		return j, invalid("amount", "must be a decimal number that is not 0, like -0.25")
	}
	kind := store.AdjustmentKind(m.GetKind())
	if kind == store.Refund && amount.IsPositive() {
		return j, invalid("amount", "must be below 0 for a refund, like -0.25; what makes a call cost more is a correction")
	}
	return store.Adjustment{Attempt: int(m.GetAttempt()), Kind: kind, Amount: amount, Currency: m.GetCurrency(), Reason: m.GetReason()}, nil
}

// aboutAdjustment says which field of an adjustment is wrong.
func aboutAdjustment(err error) error {
	e, ok := errors.AsType[*logos.Error](err)
	switch {
	case !ok:
		return err
	case e.Kind == logos.NotFound:
		return invalid("call_id", "%s", e.Message)
	case e.Code == "invalid_attempt":
		return &fieldError{"attempt", e}
	}
	return err
}
