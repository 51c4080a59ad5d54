package dialect_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

func TestPlansFollowLimits(t *testing.T) {
	start := time.UnixMilli(1795580605739)
	targets := []dialect.PlanTarget{{Cluster: "d1-c1-f8", Window: 8192}, {Cluster: "d2-c1-00"}}
	for _, c := range []struct {
		limits  logos.AttemptLimits
		want    string // of the plan, between the start and the targets
		retries int
		on      string
	}{
		{logos.AttemptLimits{}, "4 0 10000 900000 nelsx", 7, "reset,connect-failure"},
		{logos.AttemptLimits{Max: 1}, "1 0 10000 900000 nelsx", 0, "reset,connect-failure"},
		{logos.AttemptLimits{Max: 9, TotalTime: time.Minute}, "4 60000 60000 900000 nelsx", 7, "reset,connect-failure"},
		{logos.AttemptLimits{TotalTime: time.Hour}, "4 3600000 300000 900000 nelsx", 7, "reset,connect-failure"},
		{logos.AttemptLimits{FirstToken: time.Second}, "4 0 10000 1000 nelsxh", 7, "reset,connect-failure"},
		{logos.AttemptLimits{FirstToken: time.Hour}, "4 0 10000 900000 nelsxh", 7, "reset,connect-failure"},
		{logos.AttemptLimits{On: []logos.RetryCondition{}}, "4 0 10000 900000 ", 7, ""},
		{logos.AttemptLimits{On: []logos.RetryCondition{logos.RetryRateLimited}}, "4 0 10000 900000 l", 7, ""},
		{logos.AttemptLimits{On: []logos.RetryCondition{logos.RetryReset}}, "4 0 10000 900000 n", 7, "reset,connect-failure"},
		{logos.AttemptLimits{On: []logos.RetryCondition{logos.RetryConnectFailure}}, "4 0 10000 900000 n", 7, "connect-failure"},
		{logos.AttemptLimits{On: []logos.RetryCondition{logos.RetrySilent}}, "4 0 10000 900000 s", 7, "reset,connect-failure"},
		{logos.AttemptLimits{On: []logos.RetryCondition{logos.RetrySilent, logos.RetryConnectFailure}}, "4 0 10000 900000 s", 7, "reset,connect-failure"},
		{logos.AttemptLimits{On: []logos.RetryCondition{logos.RetryServerError, logos.RetryContextLength}}, "4 0 10000 900000 ex", 7, ""},
	} {
		p := dialect.NewPlan(start, c.limits, dialect.PlanBounds{FirstByte: 15 * time.Minute, Idle: 10 * time.Minute}, targets)
		want := "1795580605739 " + c.want + ";d1-c1-f8 8192 d2-c1-00 0"
		if got := p.Encode(); got != want || p.MaxRetries() != c.retries || p.RetryOn() != c.on {
			t.Errorf("%+v: the plan is %q with %d retries on %q, want %q, %d and %q", c.limits, got, p.MaxRetries(), p.RetryOn(), want, c.retries, c.on)
		}
	}
}

func TestLuaUsesTheNamesThatOthersKnow(t *testing.T) {
	for name, value := range map[string]string{
		"BETWEEN": dialect.BetweenAttempts, "CLUSTER": dialect.ClusterHeader, "STATE": dialect.AttemptsNamespace,
	} {
		if !strings.Contains(dialect.Lua("m"), fmt.Sprintf("local %s = %q", name, value)) {
			t.Errorf("the script does not call %s %q", name, value)
		}
	}
	for _, want := range []string{
		fmt.Sprintf("local CONNECT, CONNECTED = %d, ", dialect.ConnectTimeout.Milliseconds()),
		fmt.Sprintf("local AGAIN, AGAIN_IN = %q, %q", dialect.AgainHeader, dialect.AgainInHeader),
		fmt.Sprintf("decision[%q]", dialect.PlanKey), fmt.Sprintf("metadata:set(STATE, %q", dialect.AttemptsMade),
	} {
		if !strings.Contains(dialect.Lua("m"), want) {
			t.Errorf("the script has no %s", want)
		}
	}
}
