#!/usr/bin/env python3
"""Decode speed of vLLM on the checkpoint and step sizes that gpu_bench takes, for tools/gpu_check.sh.

Prints "vllm: ..." lines. The time of a token is the difference of two runs that differ in their length alone, so that neither
prefill nor start counts.
"""
import argparse
import time

import vllm


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()

    engine = vllm.LLM(model=args.model, dtype=args.dtype, tensor_parallel_size=args.ranks, skip_tokenizer_init=True,
                      enable_prefix_caching=False, max_model_len=args.context + 4 * args.rounds)

    def seconds(batch, tokens):
        prompts = [{"prompt_token_ids": [(31 * i + 7 * j) % 50000 for j in range(args.context)]} for i in range(batch)]
        sampling = vllm.SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        start = time.monotonic()
        engine.generate(prompts, sampling, use_tqdm=False)
        return time.monotonic() - start

    for batch in map(int, args.batches.split(",")):
        seconds(batch, 2)
        step = (seconds(batch, 1 + 2 * args.rounds) - seconds(batch, 1 + args.rounds)) / args.rounds
        print(f"vllm: {vllm.__version__}, {args.dtype}, batch {batch} at {args.context} positions: "
              f"measured {1e3 * step:.3f} ms a step, {batch / step:.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
