package api

import "github.com/ls1intum/edutelligence/logos"

// A span is how far a role may reach with a method.
type span int

const (
	none span = iota
	own       // a member's own, or what concerns the project of a program's key
	team      // of the caller's team; a viewer of no team sees all
	all
)

// roles are the columns of access, in this order.
var roles = []logos.Role{logos.RoleRoot, logos.RoleAdmin, logos.RoleTeamOwner, logos.RoleMember, logos.RoleViewer, logos.RoleService}

// access says which role may use which method, and how far. It is the one place that does: what it lacks
// nobody may use. Reading and changing are confined to the span by the store's queries, so that what lies
// outside is as if it were not there.
var access = map[string][6]span{
	//                      root admin owner member viewer service
	"WhoAmI": {all, all, own, own, own, own},

	"GetTeam":    {all, all, team, own, team, own},
	"ListTeams":  {all, all, team, own, team, own},
	"CreateTeam": {all, all, none, none, none, none},
	"UpdateTeam": {all, all, none, none, none, none},
	"DeleteTeam": {all, all, none, none, none, none},

	"GetProject":    {all, all, team, own, team, own},
	"ListProjects":  {all, all, team, own, team, own},
	"CreateProject": {all, all, team, none, none, none},
	"UpdateProject": {all, all, team, none, none, none},
	"DeleteProject": {all, all, team, none, none, none},

	"GetMember":    {all, all, team, own, team, none},
	"ListMembers":  {all, all, team, own, team, none},
	"CreateMember": {all, all, team, none, none, none},
	"UpdateMember": {all, all, team, none, none, none},
	"DeleteMember": {all, all, team, none, none, none},

	"GetAccessProfile":    {all, all, team, own, team, own},
	"ListAccessProfiles":  {all, all, team, own, team, own},
	"CreateAccessProfile": {all, all, none, none, none, none},
	"UpdateAccessProfile": {all, all, none, none, none, none},
	"DeleteAccessProfile": {all, all, none, none, none, none},

	"GetApiKey":          {all, all, team, own, team, none},
	"ListApiKeys":        {all, all, team, own, team, none},
	"CreateApiKey":       {all, all, team, own, none, none},
	"UpdateApiKey":       {all, all, team, own, none, none},
	"DeleteApiKey":       {all, all, team, own, none, none},
	"RotateApiKey":       {all, all, team, own, none, none},
	"RevokeApiKey":       {all, all, team, own, none, none},
	"BatchCreateApiKeys": {all, all, team, none, none, none},

	"GetProvider":    {all, all, none, none, team, none},
	"ListProviders":  {all, all, none, none, team, none},
	"CreateProvider": {all, all, none, none, none, none},
	"UpdateProvider": {all, all, none, none, none, none},
	"DeleteProvider": {all, all, none, none, none, none},
	"TestProvider":   {all, all, none, none, none, none},
	"DiscoverModels": {all, all, none, none, none, none},

	"GetCredential":    {all, all, none, none, team, none},
	"ListCredentials":  {all, all, none, none, team, none},
	"CreateCredential": {all, all, none, none, none, none},
	"UpdateCredential": {all, all, none, none, none, none},
	"DeleteCredential": {all, all, none, none, none, none},

	"GetModel":    {all, all, team, own, team, own},
	"ListModels":  {all, all, team, own, team, own},
	"CreateModel": {all, all, none, none, none, none},
	"UpdateModel": {all, all, none, none, none, none},
	"DeleteModel": {all, all, none, none, none, none},

	"GetDeployment":    {all, all, team, own, team, own},
	"ListDeployments":  {all, all, team, own, team, own},
	"CreateDeployment": {all, all, none, none, none, none},
	"UpdateDeployment": {all, all, none, none, none, none},
	"DeleteDeployment": {all, all, none, none, none, none},

	"GetPolicy":           {all, all, team, own, team, none},
	"ListPolicies":        {all, all, team, own, team, none},
	"ListPolicyVersions":  {all, all, team, own, team, none},
	"ListPolicyVariables": {all, all, team, own, team, none},
	"CreatePolicy":        {all, all, team, none, none, none},
	"UpdatePolicy":        {all, all, team, none, none, none},
	"DeletePolicy":        {all, all, team, none, none, none},
	"ImportThresholds":    {all, all, team, none, none, none},

	"ExplainDecision": {all, all, team, own, none, none},

	"GetBudget":          {all, all, team, own, team, own},
	"ListBudgets":        {all, all, team, own, team, own},
	"ListBudgetCounters": {all, all, team, own, team, own},
	"CreateBudget":       {all, all, team, none, none, none},
	"UpdateBudget":       {all, all, team, none, none, none},
	"DeleteBudget":       {all, all, team, none, none, none},

	"GetPrice":                {all, all, none, none, team, none},
	"ListPrices":              {all, all, none, none, team, none},
	"CreatePrice":             {all, all, none, none, none, none},
	"UpdatePrice":             {all, all, none, none, none, none},
	"DeletePrice":             {all, all, none, none, none, none},
	"ListPriceVersions":       {all, all, none, none, team, none},
	"ListUnpricedDeployments": {all, all, none, none, none, none},
	"ImportPrices":            {all, all, none, none, none, none},

	"GetCall":   {all, all, team, own, team, own},
	"ListCalls": {all, all, team, own, team, own},

	"SummarizeUsage": {all, all, team, own, team, own},
	"ExportUsage":    {all, all, team, own, team, own},
	"GetStatement":   {all, all, team, own, team, own},

	"GetAdjustment":    {all, all, team, own, team, own},
	"ListAdjustments":  {all, all, team, own, team, own},
	"CreateAdjustment": {all, all, none, none, none, none},

	"GetAuditEvent":   {all, all, team, none, team, none},
	"ListAuditEvents": {all, all, team, none, team, none},

	"GetSettings":        {all, all, none, none, team, none},
	"UpdateSettings":     {all, none, none, none, none, none},
	"EraseEndUser":       {all, all, none, none, none, none},
	"EraseSourceAddress": {all, all, none, none, none, none},

	"ExportConfiguration": {all, all, none, none, none, none},
	"ApplyConfiguration":  {all, all, none, none, none, none},
}

// public are the methods that need no API key.
var public = map[string]bool{"ClaimApiKey": true}

// rank orders roles by what they may do: nobody makes or changes keys or members above its own. A viewer sees
// more than a member, who therefore may not make one.
func rank(r logos.Role) int {
	switch r {
	case logos.RoleRoot:
		return 4
	case logos.RoleAdmin:
		return 3
	case logos.RoleTeamOwner:
		return 2
	case logos.RoleViewer:
		return 1
	}
	return 0
}
