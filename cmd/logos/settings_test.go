package main

import "testing"

func TestTheDataPlaneIsWhereEnvoyIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ listen, envoyAdmin, cert, want string }{
		{"127.0.0.1:8080", "127.0.0.1:9901", "", "http://127.0.0.1:8080"},
		{"127.0.0.1:8080", "127.0.0.1:9901", "cert.pem", "https://127.0.0.1:8080"},
		{"0.0.0.0:8080", "127.0.0.1:9901", "", "http://127.0.0.1:8080"},
		{"0.0.0.0:8080", "envoy:9901", "", "http://envoy:8080"}, // as in docker-compose.yaml
		{":8080", "0.0.0.0:9901", "", "http://127.0.0.1:8080"},
		{"[::1]:8080", "127.0.0.1:9901", "", "http://[::1]:8080"},
		{"10.0.0.5:8080", "envoy:9901", "", "http://10.0.0.5:8080"},
	} {
		s := settings{listen: c.listen, envoyAdmin: c.envoyAdmin, certFile: c.cert}
		if got := s.dataPlane(); got != c.want {
			t.Errorf("listening at %s with Envoy's admin at %s, it is %s, want %s", c.listen, c.envoyAdmin, got, c.want)
		}
	}
}
