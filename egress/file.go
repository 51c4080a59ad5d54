package egress

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"go.uber.org/zap"
)

// remember reads what the process before knew, so that a restart while name servers are down takes no
// provider away. The rules judge it like every answer.
func (b *Book) remember() {
	if b.opt.File == "" {
		return
	}
	text, err := os.ReadFile(b.opt.File)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	known := make(map[string][]netip.Addr)
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err != nil {
		b.log.Warn("the addresses that were kept can't be read; they are looked up anew", zap.Error(err))
		return
	}
	for host, found := range known {
		e := b.entry(Normal(host))
		e.found, e.until = found, time.Now().Add(b.opt.Linger)
	}
}

// keep writes what is known of configured hosts.
func (b *Book) keep() {
	if b.opt.File == "" {
		return
	}
	known := make(map[string][]netip.Addr)
	b.mu.Lock()
	for host, e := range b.entries {
		if _, isAddress := literal(host); e.named && !isAddress && len(e.found) > 0 {
			known[host] = e.found
		}
	}
	b.mu.Unlock()
	text, err := json.Marshal(known)
	if err == nil {
		err = replace(b.opt.File, text)
	}
	if err != nil {
		b.log.Warn("the addresses of providers can't be kept for a restart", zap.Error(err))
	}
}

// replace writes a file so that it is there as a whole or not at all.
func replace(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
