package demo

import "net/http"

func messages(w http.ResponseWriter, _ *request, a answer) {
	message := func(content []object, stop any, output int) object {
		return object{"id": "msg_" + a.id, "type": "message", "role": "assistant", "model": a.model, "content": content,
			"stop_reason": stop, "stop_sequence": nil, "usage": object{"input_tokens": a.input, "output_tokens": output}}
	}
	if !a.stream {
		writeJSON(w, http.StatusOK, message([]object{{"type": "text", "text": a.text()}}, "end_turn", len(a.words)))
		return
	}
	e := newEvents(w)
	send := func(kind string, v object) {
		v["type"] = kind
		e.send(kind, v)
	}
	send("message_start", object{"message": message([]object{}, nil, 0)})
	send("content_block_start", object{"index": 0, "content_block": object{"type": "text", "text": ""}})
	for _, word := range a.words {
		send("content_block_delta", object{"index": 0, "delta": object{"type": "text_delta", "text": word}})
	}
	send("content_block_stop", object{"index": 0})
	send("message_delta", object{"delta": object{"stop_reason": "end_turn", "stop_sequence": nil}, "usage": object{"output_tokens": len(a.words)}})
	send("message_stop", object{})
}
