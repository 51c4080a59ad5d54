"""Calls the gateway with Anthropic's own package: use_anthropic.py GATEWAY KEY MODEL.

It prints, as JSON, what the package made of the answers.
"""

import json
import sys

import anthropic

QUESTION = {"max_tokens": 12, "messages": [{"role": "user", "content": "Say something."}]}


def main(gateway, key, model):
    calls = {}  # name: id, tokens and text of a call

    def note(name, id, message):
        u = message.usage
        calls[name] = {
            "id": id, "prompt": u.input_tokens + (u.cache_read_input_tokens or 0) + (u.cache_creation_input_tokens or 0),
            "completion": u.output_tokens, "text": "".join(part.text for part in message.content),
        }

    client = anthropic.Anthropic(base_url=gateway, api_key=key)
    raw = client.messages.with_raw_response.create(model=model, **QUESTION)
    note("messages", raw.headers["x-request-id"], raw.parse())
    with client.messages.stream(model=model, **QUESTION) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
        note("messages, streamed", stream.response.headers["x-request-id"], final)
    bearer = anthropic.Anthropic(base_url=gateway, auth_token=key)
    raw = bearer.messages.with_raw_response.create(model=model, **QUESTION)
    note("messages with a bearer token", raw.headers["x-request-id"], raw.parse())

    json.dump({
        "calls": calls,
        "streamed": text,
        "stop_reason": final.stop_reason,
        "unknown": error(lambda: client.messages.create(model="nope", **QUESTION)),
        "unknown_streamed": error(lambda: client.messages.stream(model="nope", **QUESTION).__enter__()),
        "unauthenticated": error(lambda: client.with_options(api_key="lg-wrong").messages.create(model=model, **QUESTION)),
    }, sys.stdout)


def error(call):
    try:
        call()
    except anthropic.APIStatusError as e:
        body = e.body
        return {"class": type(e).__name__, "status": e.status_code, "type": body["error"]["type"], "code": body["error"].get("code"),
                "id": body["request_id"], "header": e.response.headers["x-request-id"], "request_id": e.request_id}
    return {}


main(*sys.argv[1:])
