"""Calls the gateway with OpenAI's and Anthropic's own packages, and any key: use_key.py GATEWAY KEY MODEL.

It prints, as JSON, what the packages made of the answers.
"""

import json
import sys

import anthropic
import openai

QUESTION = [{"role": "user", "content": "Say something."}]


def main(gateway, key, model):
    chat = openai.OpenAI(base_url=gateway + "/v1", api_key=key).chat.completions.create(model=model, messages=QUESTION)
    usage = chat.usage
    calls = {"openai": {"id": chat._request_id, "prompt": usage.prompt_tokens, "completion": usage.completion_tokens}}
    response = anthropic.Anthropic(base_url=gateway, api_key=key).messages.with_raw_response.create(model=model, max_tokens=5, messages=QUESTION)
    message = response.parse()
    usage = message.usage
    read = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    calls["anthropic"] = {"id": response.headers["x-request-id"], "prompt": usage.input_tokens + read, "completion": usage.output_tokens}
    print(json.dumps({"calls": calls}))


main(*sys.argv[1:])
