#!/usr/bin/env python3
"""Writes gptq.txt, the golden file of GPTQ's planes, from numpy alone: packing by arithmetic on whole arrays.

Made with numpy 2.4.6:   python3 tests/quant/golden/make_gptq_golden.py
Each line is `key hex`, little-endian bytes. Cases: groups in order (v1), shuffled groups and any zeros (v2), one group (v1).
"""
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent


def packed(nibbles):
    """Eight rows of 0..15 become one row of u32, the first in the lowest bits."""
    n = nibbles.astype(np.uint64).reshape(nibbles.shape[0] // 8, 8, -1)
    return (n * (np.uint64(16) ** np.arange(8, dtype=np.uint64))[None, :, None]).sum(axis=1).astype(np.uint32)


def bf16_bits(values):
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def case(rng, name, n, k, groups, g_idx, zeros, stored_offset):
    codes = rng.integers(0, 16, (k, n))
    scales = (rng.uniform(1e-3, 3e-2, (groups, n))).astype(np.float16)
    scales[0, 0] = np.float16(3e-7)  # a subnormal
    stored = zeros - stored_offset
    values = scales.astype(np.float32)[g_idx] * (codes - zeros[g_idx]).astype(np.float32)
    values = np.ascontiguousarray(values.T)
    fields = {"shape": np.array([n, k, groups], np.int64), "codes": codes.T.astype(np.uint8), "zeros": zeros.T.astype(np.uint8),
              "qweight": packed(codes), "qzeros": packed(stored.T).T, "scales": scales, "g_idx": g_idx.astype(np.int32),
              "values": values, "bf16": bf16_bits(values)}
    return [(f"{name}.{key}", np.ascontiguousarray(value).tobytes().hex()) for key, value in fields.items()]


def main():
    rng = np.random.default_rng(22101732)
    lines = case(rng, "ordered", 32, 64, 2, np.arange(64) // 32, np.full((2, 32), 8), 1)
    lines += case(rng, "shuffled", 64, 96, 3, rng.permutation(96) // 32, rng.integers(0, 16, (3, 64)), 0)
    lines += case(rng, "single", 32, 32, 1, np.zeros(32, np.int64), rng.integers(1, 16, (1, 32)), 1)
    head = "# GPTQ planes by numpy; see make_gptq_golden.py.\n"
    (HERE / "gptq.txt").write_text(head + "".join(f"{key} {value}\n" for key, value in lines))


if __name__ == "__main__":
    main()
