package main

// bearer is the name of the security scheme.
const bearer = "apiKey"

// about is what holds for all operations.
const about = `
The admin API of Logos, over REST as described here and over gRPC on the same port. Its one definition is
` + "`api/proto`" + ` in the source.

**Authentication.** ` + "`Authorization: Bearer lg-…`" + ` with an API key. What lies outside of its role's reach is
answered as if it were not there.

**Changes** are in force when they are answered: the next call on the data plane sees them. Each is one
transaction, and is on record in audit events. An ` + "`etag`" + ` that is sent along must be the present one, else the answer is 409
and nothing changed.

**Requests.** Whole numbers may be sent as numbers or as texts; ` + "`null`" + ` is as if a field were not there; names of
fields may also be written in camel case. What the gateway alone sets (read-only) may be sent back, and is ignored. Fields
and query parameters that are not known are refused. Names are at most as long as said here in bytes of UTF-8. No
text may hold the character U+0000. A request is at most 4 MiB.

**Answers** hold all fields but optional ones that are not set. Whole numbers of 64 bits are texts. Errors are a
` + "`google.rpc.Status`" + ` with a stable ` + "`reason`" + ` and, where it is about fields, their paths and what would be right.

**Lists** come in pages: send ` + "`next_page_token`" + ` as ` + "`page_token`" + ` for the next one. ` + "`filter`" + ` has the syntax of
[AIP-160](https://google.aip.dev/160), ` + "`order_by`" + ` that of [AIP-132](https://google.aip.dev/132).
`

// examples are bodies of requests, by method. They work on a gateway that has what they name.
var examples = map[string]string{
	"CreateTeam":          `{"name": "physics", "member_key_limit": 3}`,
	"UpdateTeam":          `{"member_key_limit": 10}`,
	"CreateProject":       `{"name": "course-ml", "labels": {"term": "2027s"}}`,
	"UpdateProject":       `{"labels": {"term": "2027w"}}`,
	"CreateMember":        `{"email": "ada@example.org", "name": "Ada", "role": "viewer"}`,
	"UpdateMember":        `{"name": "Ada Lovelace"}`,
	"CreateAccessProfile": `{"project": "default", "name": "chat", "passthrough": false}`,
	"UpdateAccessProfile": `{"passthrough": true}`,
	"CreateApiKey":        `{"project": "default", "name": "laptop", "expire_time": "2099-12-31T00:00:00Z", "scopes": {"apis": ["chat"], "source_cidrs": ["10.0.0.0/8"]}}`,
	"UpdateApiKey":        `{"scopes": {"apis": ["chat", "embeddings"]}}`,
	"RotateApiKey":        `{"overlap": "3600s"}`,
	"RevokeApiKey":        `{}`,
	"BatchCreateApiKeys":  `{"template": {"project": "default", "name": "{name}"}, "csv": "name,email\nada,ada@example.org\n"}`,
	"ClaimApiKey":         `{"token": "the-last-part-of-the-link"}`,
	"CreateProvider":      `{"name": "OpenAI", "base_url": "https://api.openai.com/v1"}`,
	"UpdateProvider":      `{"privacy_zone": "anywhere"}`,
	"TestProvider":        `{}`,
	"DiscoverModels":      `{}`,
	"CreateCredential":    `{"provider": "OpenAI", "name": "main", "secret": "sk-example"}`,
	"UpdateCredential":    `{"name": "second"}`,
	"CreateModel":         `{"name": "gpt-4o", "capabilities": ["tools", "vision"], "context_window": 128000}`,
	"UpdateModel":         `{"quality": 0.8}`,
	"CreateDeployment":    `{"model": "gpt-4o", "provider": "OpenAI", "apis": ["chat"]}`,
	"UpdateDeployment":    `{"max_parallel": 8}`,
	"CreatePolicy":        `{"name": "inside the EU", "level": "installation", "constraints": {"max_privacy_zone": "eu_us", "max_time_to_first_token": "5s"}, "relax": ["time_to_first_token"], "objective": {"cost": 2, "latency": 1}}`,
	"UpdatePolicy":        `{"rules": [{"name": "gpus-by-night", "kind": "preference", "when": "request.tags.exists(t, t == \"batch\")", "require": "candidate.zone == \"local\""}]}`,
	"ImportThresholds":    `{"project": "default", "policies": [{"name": "cheap", "threshold_privacy": "CLOUD_IN_EU_BY_US_PROVIDER", "threshold_cost": 2, "priority": 5}]}`,
	"ExplainDecision":     `{"api_key_id": 1, "body": {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}}`,
	"CreateAdjustment":    `{"call_id": "4c3648d3-45cf-4a39-9983-4ec0041b40d3", "kind": "refund", "amount": "-0.25", "currency": "EUR", "reason": "the provider's credit note 17"}`,
	"UpdateSettings":      `{"call_retention_days": 90, "task_matchers": [{"name": "law", "keywords": ["court", "plaintiff"]}]}`,
	"CreateBudget":        `{"name": "course", "selector": {"projects": ["default"]}, "each": "end_user", "unit": "requests", "amount": "1000", "window": "day", "time_zone": "Europe/Berlin"}`,
	"UpdateBudget":        `{"amount": "2000"}`,
	"CreatePrice":         `{"provider": "OpenAI", "provider_model": "gpt-4o", "meter": "input", "amount": "2.50", "currency": "USD"}`,
	"UpdatePrice":         `{"amount": "2.40"}`,
	"ImportPrices":        `{"source": "a list", "dry_run": true}`,
	"EraseEndUser":        `{"project_id": 1, "user": "ada@example.org"}`,
	"EraseSourceAddress":  `{"address": "192.0.2.7"}`,
	"ApplyConfiguration":  `{"dry_run": true, "configuration": {"projects": [{"name": "course-ml"}]}}`,
}
