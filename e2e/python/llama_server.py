"""Serves a model with llama.cpp on a free loopback port: llama_server.py FILE KEY text|embeddings.

It wants KEY as its API key, prints its base address, and ends when its input closes: it never outlives the
test that started it.
"""

import sys

import xllamacpp


def main(model, key, kind):
    p = xllamacpp.CommonParams()
    p.model.path = model
    p.model_alias = {"tiny"}
    p.hostnames = ["127.0.0.1"]
    p.port = 0
    p.api_keys = [key]
    p.n_ctx = 4096
    p.n_parallel = 2
    p.n_predict = 16
    p.n_threads_http = 4
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    p.sampling.temp = 0
    p.warmup = False
    if kind == "embeddings":
        p.embedding = True
        p.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(p)
    print(server.listening_address, flush=True)
    sys.stdin.read()


main(*sys.argv[1:])
