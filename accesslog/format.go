package accesslog

import (
	"strconv"

	"github.com/ls1intum/edutelligence/logos/dialect"
)

// The kinds of lines, as Envoy names them.
const (
	callEnd      = "DownstreamEnd"
	attemptStart = "UpstreamPoolReady"
	attemptEnd   = "UpstreamEnd"
)

// Namespaces of Envoy's dynamic metadata that hold what was read from responses.
const (
	NumberNamespace = "logos.usage"
	TextNamespace   = "logos.text"
)

// CallFormat returns what Envoy writes at the end of a call: key → command operators. What is absent is
// left out. decision names the
// metadata that holds the decision, as "namespace:key".
func CallFormat(decision string) map[string]string {
	format := map[string]string{
		"t":  "%ACCESS_LOG_TYPE%",
		"id": "%REQ(X-REQUEST-ID)%",
		"d":  "%DYNAMIC_METADATA(" + decision + ")%",
		"m":  "%REQ(:METHOD):16%",
		"y":  "%ROUTE_NAME%",
		"c":  "%RESPONSE_CODE%",
		"f":  "%RESPONSE_FLAGS%",
		"x":  "%RESPONSE_CODE_DETAILS%",
		"ct": "%RESP(CONTENT-TYPE):64%",
		"ms": "%DURATION%",
		"tb": "%RESPONSE_DURATION%",
		"i":  "%BYTES_RECEIVED%",
		"o":  "%BYTES_SENT%",
		"n":  "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
	}
	format[dialect.Numbers] = "%DYNAMIC_METADATA(" + NumberNamespace + ")%"
	for _, f := range append(dialect.StreamFields(), dialect.AnswerFields()...) {
		if f.Limit > 0 {
			format[f.Key] = "%DYNAMIC_METADATA(" + TextNamespace + ":" + f.Key + "):" + strconv.Itoa(f.Limit) + "%"
		}
	}
	return format
}

// AttemptFormat returns what Envoy writes at the start and at the end of an attempt.
func AttemptFormat() map[string]string {
	return map[string]string{
		"t":  "%ACCESS_LOG_TYPE%",
		"id": "%REQ(X-REQUEST-ID)%",
		"k":  "%UPSTREAM_CLUSTER_RAW%",
		"c":  "%RESPONSE_CODE%",
		"f":  "%RESPONSE_FLAGS%",
		"x":  "%RESPONSE_CODE_DETAILS%",
		"r":  "%RESP(X-REQUEST-ID?REQUEST-ID):128%",
		"r2": "%RESP(APIM-REQUEST-ID):128%",
		"s":  "%START_TIME(%s.%6f)%",
		"ms": "%DURATION%",
		"w":  "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	}
}
