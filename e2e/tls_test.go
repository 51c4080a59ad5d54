package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An authority signs certificates for this machine.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem")}
	a.cert, a.key = a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "test roots"}})
	writePEM(t, a.file, "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// issue writes a certificate of that name for localhost and 127.0.0.1, in the place of an older one.
func (a *authority) issue(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, keyFile+".new", "EC PRIVATE KEY", der)
	writePEM(t, certFile+".new", "CERTIFICATE", cert.Raw)
	for _, f := range []string{keyFile, certFile} {
		if err := os.Rename(f+".new", f); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
}

// presented returns the name in the certificate that a port presents.
func presented(address string, roots *x509.CertPool) string {
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestTLSTowardsProvidersAndCallers(t *testing.T) {
	a := newAuthority(t)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := a.issue(t, dir, "first")

	plainText := newProvider(t, func(p *provider, w http.ResponseWriter, x asked) { p.answerChat(w, x, usage{input: 3, output: 2}, 2) })
	secure := httptest.NewUnstartedServer(plainText.Config.Handler)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	untrusted := httptest.NewTLSServer(plainText.Config.Handler) // its certificate is nobody's
	t.Cleanup(untrusted.Close)

	g := start(t, map[string]string{"LOGOS_CA_FILE": a.file, "LOGOS_TLS_CERT_FILE": certFile, "LOGOS_TLS_KEY_FILE": keyFile})
	_, port, _ := net.SplitHostPort(secure.Listener.Addr().String())
	g.deploy("by-name", "", target{"by-name", "https://localhost:" + port + "/v1", "k", "authorization", "Bearer {}"})
	g.deploy("by-address", "", target{"by-address", "https://127.0.0.1:" + port + "/v1", "k", "authorization", "Bearer {}"})
	g.deploy("untrusted", "", target{"untrusted", untrusted.URL + "/v1", "k", "authorization", "Bearer {}"})
	caller := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, ForceAttemptHTTP2: true}, Timeout: time.Minute}
	call := func(model string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+g.data+"/v1/chat/completions", strings.NewReader(chatBody(model, true)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("authorization", "Bearer "+g.root)
		resp, err := caller.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("x-request-id")
	}
	for _, model := range []string{"by-name", "by-address"} {
		if status, id := call(model); status != 200 {
			t.Errorf("%s: %d, %+v", model, status, g.record(id))
		}
	}
	status, id := call("untrusted")
	if rec := g.record(id); status != 503 || rec.EndReason != "upstream_error" || !strings.Contains(rec.Attempts[0].Detail, "CERTIFICATE_VERIFY_FAILED") {
		t.Errorf("untrusted: %d, %+v", status, rec)
	}
	if name := presented(g.data, roots); name != "first" {
		t.Errorf("the data plane presents %s", name)
	}
	a.issue(t, dir, "second")
	g.eventually("the second certificate", waitLong, func() bool { return presented(g.data, roots) == "second" })
}

func TestTLSOnTheAdminPort(t *testing.T) {
	a := newAuthority(t)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	dir := t.TempDir()
	certFile, keyFile := a.issue(t, dir, "first")
	g := newGateway(t, map[string]string{"LOGOS_ADMIN_TLS_CERT_FILE": certFile, "LOGOS_ADMIN_TLS_KEY_FILE": keyFile, "LOGOS_LOGOSDB_ON_DATA_PLANE": "true"}, "--demo=false")
	g.up()
	g.eventually("the announcement", waitLong, func() bool {
		text, _ := os.ReadFile(g.output.Name())
		return strings.Contains(string(text), "Logos is ready")
	})
	if name := presented(g.admin, roots); name != "first" {
		t.Errorf("the admin port presents %s", name)
	}
	if r := g.call("POST", "/logosdb/get_process_id", `{"logos_key":"lg-unknown"}`); r.status != 401 {
		t.Errorf("on the data plane's port, set-up calls are answered %v", r)
	}
	a.issue(t, dir, "second")
	g.eventually("the second certificate", waitLong, func() bool { return presented(g.admin, roots) == "second" })
}
