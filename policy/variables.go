package policy

import (
	"cel.dev/cel-go/cel"
)

// A scope says on what the value of a variable depends, and so how often it has to be looked at.
type scope uint8

const (
	scopeStatic scope = 1 << iota // candidate, as configured: once for each configuration
	scopeCall                     // request and caller: once for each call
	scopeLive                     // candidate, as measured: for each candidate of each call
)

// A Variable is what policies can speak of in CEL.
type Variable struct {
	Name string
	Type string
	Doc  string

	scope scope
	typ   *cel.Type
}

// The variables, as indexes of the table below. The first ones are of the call, then of the candidate as
// configured, then as measured.
const (
	varAPI = iota
	varModel
	varStream
	varTools
	varImages
	varJSONSchema
	varInputTokens
	varMaxTokens
	varLength
	varLanguage
	varCode
	varKeywords
	varTags
	varTeamID
	varTeam
	varProjectID
	varProject
	varProfileID
	varProfile
	varKeyID
	varKey
	varCallerLabels
	varEndUser
	numCall

	varDeploymentID = iota - 1
	varProviderID
	varProvider
	varDialect
	varZone
	varModelID
	varCandidateModel
	varProviderModel
	varLabels
	varCapabilities
	varContextWindow
	varQuality
	varAccuracy
	varTaskQuality
	varTaskAccuracy
	numConfigured

	varGrantedBy = iota - 2
	varPriced
	varCurrency
	varCost
	varFirstToken
	varLoad
	numVariables
)

// table holds the variables in order of their indexes. It is never written.
var table = [numVariables]Variable{
	varAPI:          {"request.api", "string", "chat, completions, responses, messages or embeddings", scopeCall, cel.StringType},
	varModel:        {"request.model", "string", "the model as the caller named it", scopeCall, cel.StringType},
	varStream:       {"request.stream", "bool", "the answer is to be streamed", scopeCall, cel.BoolType},
	varTools:        {"request.tools", "bool", "the request offers tools", scopeCall, cel.BoolType},
	varImages:       {"request.images", "bool", "the request has images", scopeCall, cel.BoolType},
	varJSONSchema:   {"request.json_schema", "bool", "the answer is to match a JSON schema", scopeCall, cel.BoolType},
	varInputTokens:  {"request.input_tokens", "int", "estimated length of the input", scopeCall, cel.IntType},
	varMaxTokens:    {"request.max_tokens", "int", "the caller's limit of the output; 0: none", scopeCall, cel.IntType},
	varLength:       {"request.length", "string", "short, medium, long or very_long", scopeCall, cel.StringType},
	varLanguage:     {"request.language", "string", "ISO 639-1 code of the text's language; empty: not recognised", scopeCall, cel.StringType},
	varCode:         {"request.code", "bool", "the text holds source code", scopeCall, cel.BoolType},
	varKeywords:     {"request.keywords", "list(string)", "names of the task matchers that found something in what the user said last: in its first and last kilobyte", scopeCall, cel.ListType(cel.StringType)},
	varTags:         {"request.tags", "list(string)", "names of the task matchers that found something in the system prompt: in its first and last kilobyte", scopeCall, cel.ListType(cel.StringType)},
	varTeamID:       {"caller.team_id", "int", "0: no team", scopeCall, cel.IntType},
	varTeam:         {"caller.team", "string", "name of the team", scopeCall, cel.StringType},
	varProjectID:    {"caller.project_id", "int", "", scopeCall, cel.IntType},
	varProject:      {"caller.project", "string", "name of the project", scopeCall, cel.StringType},
	varProfileID:    {"caller.profile_id", "int", "the access profile that the call names or its key is bound to; 0: none", scopeCall, cel.IntType},
	varProfile:      {"caller.profile", "string", "its name", scopeCall, cel.StringType},
	varKeyID:        {"caller.key_id", "int", "", scopeCall, cel.IntType},
	varKey:          {"caller.key", "string", "name of the API key", scopeCall, cel.StringType},
	varCallerLabels: {"caller.labels", "map(string, string)", "labels of team, project and API key; of the same name, the team's, else the project's", scopeCall, cel.MapType(cel.StringType, cel.StringType)},
	varEndUser:      {"caller.has_end_user", "bool", "the call names an end user", scopeCall, cel.BoolType},

	varDeploymentID:   {"candidate.deployment_id", "int", "", scopeStatic, cel.IntType},
	varProviderID:     {"candidate.provider_id", "int", "", scopeStatic, cel.IntType},
	varProvider:       {"candidate.provider", "string", "name of the provider", scopeStatic, cel.StringType},
	varDialect:        {"candidate.dialect", "string", "openai, azure, anthropic, gemini or openai-compatible", scopeStatic, cel.StringType},
	varZone:           {"candidate.zone", "string", "local, eu_eu, eu_us or anywhere, which is also what is not known", scopeStatic, cel.StringType},
	varModelID:        {"candidate.model_id", "int", "", scopeStatic, cel.IntType},
	varCandidateModel: {"candidate.model", "string", "name of the model", scopeStatic, cel.StringType},
	varProviderModel:  {"candidate.provider_model", "string", "what the provider calls it", scopeStatic, cel.StringType},
	varLabels:         {"candidate.labels", "map(string, string)", "labels of provider, model and deployment", scopeStatic, cel.MapType(cel.StringType, cel.StringType)},
	varCapabilities:   {"candidate.capabilities", "list(string)", "declared by the model", scopeStatic, cel.ListType(cel.StringType)},
	varContextWindow:  {"candidate.context_window", "int", "tokens; an error if not known", scopeStatic, cel.IntType},
	varQuality:        {"candidate.quality", "double", "declared, 0 to 1; an error if not known", scopeStatic, cel.DoubleType},
	varAccuracy:       {"candidate.accuracy", "double", "declared, 0 to 1; an error if not known", scopeStatic, cel.DoubleType},
	varTaskQuality:    {"candidate.task_quality", "map(string, double)", "declared by task", scopeStatic, cel.MapType(cel.StringType, cel.DoubleType)},
	varTaskAccuracy:   {"candidate.task_accuracy", "map(string, double)", "declared by task", scopeStatic, cel.MapType(cel.StringType, cel.DoubleType)},

	varGrantedBy:  {"candidate.profile_id", "int", "the access profile that grants it", scopeLive, cel.IntType},
	varPriced:     {"candidate.priced", "bool", "it has a price", scopeLive, cel.BoolType},
	varCurrency:   {"candidate.currency", "string", "of its price; an error if it has none", scopeLive, cel.StringType},
	varCost:       {"candidate.cost", "double", "what the call is expected to cost there; an error if it has no price", scopeLive, cel.DoubleType},
	varFirstToken: {"candidate.time_to_first_token", "duration", "expected, 95th percentile; an error if not known", scopeLive, cel.DurationType},
	varLoad:       {"candidate.load", "double", "share of its capacity in use", scopeLive, cel.DoubleType},
}

// Variables returns what policies can speak of in CEL, for documentation and editors.
func Variables() []Variable { return append([]Variable(nil), table[:]...) }

// indexes returns the index of each variable by name.
func indexes() map[string]int {
	m := make(map[string]int, len(table))
	for i, v := range table {
		m[v.Name] = i
	}
	return m
}
