package api

import (
	"context"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

var models = resource[*adminv1.Model]{
	kind: store.Models,
	columns: func(_ context.Context, _ *change, m, _ *adminv1.Model) (store.Columns, error) {
		if err := named("name", m.GetName()); err != nil {
			return nil, err
		}
		return store.Columns{
			"name": m.GetName(), "endpoint": m.GetEndpoint(), "capabilities": textArray(m.GetCapabilities()),
			"context_window": orNull(m.GetContextWindow()), "max_output_tokens": orNull(m.GetMaxOutputTokens()), "quality": m.Quality, "accuracy": m.Accuracy,
			"task_quality": byTask(m.GetTaskQuality()), "task_accuracy": byTask(m.GetTaskAccuracy()),
		}, at("endpoint", checkEndpoint(m.GetEndpoint()))
	},
}

// byTask is never null.
func byTask(m map[string]float64) map[string]float64 {
	if m == nil {
		return map[string]float64{}
	}
	return m
}

// textArray is never null.
func textArray(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

type modelServer struct {
	adminv1.UnimplementedModelServiceServer
	*Service
}

func (s *modelServer) GetModel(ctx context.Context, r *adminv1.GetModelRequest) (*adminv1.Model, error) {
	return get[*adminv1.Model](ctx, s.Service, store.Models, r.GetId())
}

func (s *modelServer) ListModels(ctx context.Context, r *adminv1.ListModelsRequest) (*adminv1.ListModelsResponse, error) {
	items, next, err := list[*adminv1.Model](ctx, s.Service, store.Models, r)
	return &adminv1.ListModelsResponse{Models: items, NextPageToken: next}, err
}

func (s *modelServer) CreateModel(ctx context.Context, r *adminv1.CreateModelRequest) (*adminv1.Model, error) {
	return models.create(ctx, s.Service, r.GetModel(), r.GetRequestId())
}

func (s *modelServer) UpdateModel(ctx context.Context, r *adminv1.UpdateModelRequest) (*adminv1.Model, error) {
	return models.update(ctx, s.Service, r.GetModel(), r.GetUpdateMask())
}

func (s *modelServer) DeleteModel(ctx context.Context, r *adminv1.DeleteModelRequest) (*adminv1.Model, error) {
	return models.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}
