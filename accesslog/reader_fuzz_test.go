package accesslog_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos/accesslog"
)

// FuzzReader writes garbage between the lines of calls, in chunks of any size, and with a rotation. Nothing
// may panic, every call must be stored, and every other line that is not a call's must be kept aside.
func FuzzReader(f *testing.F) {
	f.Add([]byte(""), []byte("\x05\x00\xff\x80"))
	f.Add([]byte("x\n\n{}\n[1\x00\xff"), []byte{1})
	f.Add([]byte(strings.ReplaceAll(callText(7), "4c36", "0000")), []byte{200, 3, 250})
	f.Add([]byte(callLine[:300]+"\n"+callLine[300:]), []byte{77})
	f.Add(bytes.Repeat([]byte("y"), 600), []byte{255})
	f.Fuzz(func(t *testing.T, garbage, chunks []byte) {
		if len(garbage) > 4<<10 {
			return // that takes long and tells no more
		}
		for n := range 3 {
			if bytes.Contains(garbage, []byte(id(n+1))) {
				return // it may say anything of these calls
			}
		}
		inWorld(t, accesslog.Options{RotateBytes: 2000}, func(t *testing.T, w *world) {
			p := w.envoy("e")
			w.start()
			third := len(garbage) / 3
			log := "\n" + callText(1) + string(garbage[:third]) + "\n" + callText(2) + string(garbage[third:]) + "\n" + callText(3)
			for i := 0; log != ""; i++ {
				size := len(log)
				if len(chunks) > 0 && i < 40 {
					size = min(size, 1+int(chunks[i%len(chunks)])*4)
				}
				p.write(log[:size])
				log = log[size:]
				w.pass(20 * time.Millisecond)
			}
			w.pass(1500 * time.Millisecond)
			for n := 1; n <= 3; n++ {
				c := w.store.calls[callKey{1795486584488422, id(n)}]
				if c == nil {
					t.Fatalf("call %d is not stored", n)
				}
				if got, want := describe(c), "ok 200; 1 d1-c1-f8e8a281 ok 200 input=1 output=14"; got != want {
					t.Errorf("call %d is stored as %s, want %s", n, got, want)
				}
			}
			strange := 0
			for _, l := range bytes.Split(garbage, []byte("\n")) {
				if len(l) > 0 && !bytes.HasPrefix(bytes.TrimSpace(l), []byte("{")) {
					strange++ // whatever it is, it is no line of Envoy's
				}
			}
			if strange > 0 && len(w.store.unknown) == 0 {
				t.Errorf("%d lines are no JSON objects, and none is kept aside", strange)
			}
		})
	})
}
