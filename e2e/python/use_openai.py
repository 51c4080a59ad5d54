"""Calls the gateway with OpenAI's own package: use_openai.py GATEWAY KEY TEXT_MODEL EMBEDDING_MODEL.

It prints, as JSON, what the package made of the answers.
"""

import asyncio
import json
import sys

import openai

QUESTION = [{"role": "user", "content": "Say something."}]


def main(gateway, key, model, embedder):
    calls = {}  # name: id, tokens and text of a call

    def note(name, id, prompt, completion, text=""):
        calls[name] = {"id": id, "prompt": prompt, "completion": completion, "text": text}

    def chat(name, client):
        answer = client.chat.completions.create(model=model, messages=QUESTION)
        note(name, answer._request_id, answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.choices[0].message.content)

    def chat_streamed(name, client):
        text, usage = "", None
        with client.chat.completions.create(model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}) as stream:
            for chunk in stream:
                usage = chunk.usage or usage
                text += "".join(c.delta.content or "" for c in chunk.choices)
            note(name, stream.response.headers["x-request-id"], usage.prompt_tokens, usage.completion_tokens, text)

    def embed(name, client):
        answer = client.embeddings.create(model=embedder, input=["one", "two"])
        note(name, answer._request_id, answer.usage.prompt_tokens, 0)
        return [len(d.embedding) for d in answer.data]

    client = openai.OpenAI(base_url=gateway + "/v1", api_key=key)
    chat("chat", client)
    chat_streamed("chat, streamed", client)
    dimensions = embed("embeddings", client)

    answer = client.completions.create(model=model, prompt="Say something.", max_tokens=5)
    note("completions", answer._request_id, answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.choices[0].text)

    answer = client.responses.create(model=model, input="Say something.")
    note("responses", answer._request_id, answer.usage.input_tokens, answer.usage.output_tokens, answer.output_text)
    text = ""
    with client.responses.create(model=model, input="Say something.", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.completed":
                usage = event.response.usage
        note("responses, streamed", stream.response.headers["x-request-id"], usage.input_tokens, usage.output_tokens, text)

    async def chat_async():
        async with openai.AsyncOpenAI(base_url=gateway + "/v1", api_key=key) as c:
            a = await c.chat.completions.create(model=model, messages=QUESTION)
            note("chat, asynchronous", a._request_id, a.usage.prompt_tokens, a.usage.completion_tokens, a.choices[0].message.content)

    asyncio.run(chat_async())

    azure = openai.AzureOpenAI(azure_endpoint=gateway, api_version="2024-10-21", api_key=key)
    chat("Azure chat", azure)
    chat_streamed("Azure chat, streamed", azure)
    embed("Azure embeddings", azure)

    json.dump({
        "calls": calls,
        "dimensions": dimensions,
        "models": sorted(m.id for m in client.models.list()),
        "model": client.models.retrieve(model).id,
        "unknown": error(lambda: client.chat.completions.create(model="nope", messages=QUESTION)),
        "azure_unknown": error(lambda: azure.chat.completions.create(model="nope", messages=QUESTION)),
        "unauthenticated": error(lambda: client.with_options(api_key="lg-wrong").models.list()),
    }, sys.stdout)


def error(call):
    try:
        call()
    except openai.APIStatusError as e:
        return {"class": type(e).__name__, "status": e.status_code, "code": e.code, "type": e.type, "id": e.request_id}
    return {}


main(*sys.argv[1:])
