"""Writes a tiny llama model with random weights: tiny_model.py FILE.

It says nothing sensible, but llama.cpp runs it like any other model. Every text tokenizes, since each byte is
a token. The weights are the same on every run.
"""

import sys

import gguf
import numpy

WIDTH, HEADS, LAYERS, HIDDEN, CONTEXT = 64, 4, 2, 128, 4096
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{n:02X}>" for n in range(256)]
TEXT = [chr(n) for n in range(ord("!"), 127)] + ["▁" + chr(n) for n in range(ord("a"), ord("z") + 1)] + ["▁"]


def main(path):
    tokens = SPECIAL + BYTES + TEXT
    types = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2
    types += [gguf.TokenType.BYTE] * len(BYTES) + [gguf.TokenType.NORMAL] * len(TEXT)
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("tiny")
    w.add_context_length(CONTEXT)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(HIDDEN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([-1.0 - n for n in range(len(tokens))])
    w.add_token_types(types)
    w.add_unk_token_id(0)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_chat_template(TEMPLATE)

    random = numpy.random.default_rng(2026)

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns)) / columns**0.5
        if name == "output":  # only text is ever the likeliest token: answers are valid UTF-8 of the asked length
            values[: len(SPECIAL) + len(BYTES)] = 0
        w.add_tensor(name + ".weight", values.astype(numpy.float32))

    def ones(name):
        w.add_tensor(name + ".weight", numpy.ones(WIDTH, numpy.float32))

    matrix("token_embd", len(tokens), WIDTH)
    matrix("output", len(tokens), WIDTH)
    ones("output_norm")
    for n in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{n}.{part}", WIDTH, WIDTH)
        matrix(f"blk.{n}.ffn_gate", HIDDEN, WIDTH)
        matrix(f"blk.{n}.ffn_up", HIDDEN, WIDTH)
        matrix(f"blk.{n}.ffn_down", WIDTH, HIDDEN)
        ones(f"blk.{n}.attn_norm")
        ones(f"blk.{n}.ffn_norm")
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


main(*sys.argv[1:])
