package logos

import "time"

// An AttemptSign is what Envoy tells of an attempt while it is under way, about once a second, and at its end.
// Signs are hints for decisions: nothing is settled by them, and some may be missing.
type AttemptSign struct {
	Call      CallID
	Cluster   string
	Start     time.Time     // of the attempt; with call and cluster, its name
	Age       time.Duration // of the attempt, when the sign was given
	FirstByte time.Duration // from the start to the first byte of the answer's body; negative: none has come
	Status    int           // 0: no response
	Ended     bool
	Broken    bool          // no connection, or it broke off
	TimedOut  bool          // a time limit of Logos ended it before the answer began
	Wait      time.Duration // how long the provider asks to be left alone; 0: it does not say
}

// At returns when the sign was given.
func (s *AttemptSign) At() time.Time { return s.Start.Add(s.Age) }
