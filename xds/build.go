// Package xds makes Envoy's configuration from a logos.Config and serves it. [Build] is a pure function:
// listener, constant route, a cluster for each target, secrets. [Server] pushes the outcome over delta
// ADS, watches what Envoy accepts, and says which clusters it can use. It decides nothing about calls.
// cmd/logos serves it on a Unix socket, since secrets travel here in the clear.
package xds

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// Names of resources that are always there.
const (
	listenerName   = "data"
	routeName      = "logos"
	extProcCluster = "logos_ext_proc"
	adminCluster   = "logos_admin"
	listenerSecret = "listener_tls"
)

// Options is what the resources depend on beside the configuration.
type Options struct {
	Listen        string // host:port of the data plane
	ExtProcSocket string // path of ext_proc's Unix socket, relative to Envoy's working directory
	AdminRoute    string // host:port of the admin listener, to serve /logosdb on the data plane; empty: off
	AdminTLS      bool   // the admin listener speaks TLS
	TrustedHops   uint32 // proxies in front, whose x-forwarded-for tells who the caller is

	// Addresses returns those at which a provider at host and port may be called; none leaves its clusters
	// without a host. Names are never Envoy's to resolve: what was checked is what is called.
	Addresses func(host, port string) []netip.Addr

	MaxBodyBytes     int64 // of requests
	MaxResponseBytes int64 // of responses that are read as a whole for their usage
	FirstByteTimeout time.Duration
	IdleTimeout      time.Duration
	MaxDuration      time.Duration // of a call

	CAFile            string // roots for providers' certificates
	CertFile, KeyFile string // of the data plane's TLS; empty: plain HTTP
	CallFormat        map[string]string
	AttemptFormat     map[string]string
	LiveFormat        map[string]string    // of attempts under way, every second
	StreamFields      []dialect.UsageField // to read from each event of a stream
	StreamKinds       []dialect.StreamKind // with fewer fields, by path
	AnswerFields      []dialect.UsageField // to read from an answer in JSON
	RequestHeaders    []string             // that ext_proc reads, beside x-logos-*
	EpochHeader       string               // gRPC metadata for ext_proc that names this Envoy process
	SourceHeader      string               // and that names the caller's address
	Namespace         string               // dynamic metadata of decisions
	RouteNamespace    string               // typed dynamic metadata of targets
	AgainMark         string               // by which Envoy knows that another attempt is the gateway's word; not a provider's to guess
	NumberNamespace   string               // dynamic metadata of the numbers in responses
	TextNamespace     string               // dynamic metadata of the texts in responses
}

// Resources is Envoy's configuration.
type Resources struct {
	Clusters  []*clusterv3.Cluster
	Endpoints []*endpointv3.ClusterLoadAssignment
	Listeners []*listenerv3.Listener
	Routes    []*routev3.RouteConfiguration
	Secrets   []*tlsv3.Secret
}

// Build makes the resources for one Envoy process. extra holds targets that are no longer in the
// configuration but may still be named by a call under way.
func Build(cfg *logos.Config, extra []*logos.Target, o Options, epoch string) (*Resources, error) {
	a := assembler{o: o}
	set, err := a.assemble(slices.Concat(cfg.Targets(), extra))
	if err != nil {
		return nil, err
	}
	listener, err := a.listenerFor(epoch)
	if err != nil {
		return nil, err
	}
	r := set.resources()
	r.Listeners = []*listenerv3.Listener{listener.resource}
	return r, nil
}

// A builder keeps the first error of packing messages, so that the tree of resources stays readable.
type builder struct {
	o        Options
	scrubbed []string // every header that may carry a credential
	err      error
}

func (b *builder) any(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	// Deterministic, since a changed byte is a changed resource.
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil && b.err == nil {
		b.err = err
	}
	return a
}

func (b *builder) extension(name string, m proto.Message) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: b.any(m)}
}

// ads is the configuration source of resources that come over the same stream.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func seconds(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

func tcpAddress(hostport string) (*corev3.Address, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", hostport, err)
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", hostport, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return socketAddress(host, uint32(n)), nil
}

func socketAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func endpoints(cluster string, address *corev3.Address) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: cluster, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}}},
	}}}
}

// injects says whether Envoy adds a stored credential.
func injects(t *logos.Target) bool {
	return t.Credential != nil && t.Credential.Secret != "" && t.Provider.AuthHeader != ""
}

func secretName(c *logos.Credential) string { return "c" + logos.FormatID(c.ID) }

// secret is the whole header value of a credential.
func secret(t *logos.Target) *tlsv3.Secret {
	format := t.Provider.AuthFormat
	if format == "" {
		format = "{}"
	}
	value := strings.Replace(format, "{}", string(t.Credential.Secret), 1)
	return &tlsv3.Secret{Name: secretName(t.Credential), Type: &tlsv3.Secret_GenericSecret{GenericSecret: &tlsv3.GenericSecret{
		Secret: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: value}},
	}}}
}

// listenerSecret names the files of the data plane's certificate; Envoy reads them again when the
// directory changes.
func (b *builder) listenerSecret() *tlsv3.Secret {
	file := func(path string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
	}
	return &tlsv3.Secret{Name: listenerSecret, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: file(b.o.CertFile), PrivateKey: file(b.o.KeyFile),
		WatchedDirectory: &corev3.WatchedDirectory{Path: filepath.Dir(b.o.CertFile)},
	}}}
}
