#!/usr/bin/env python3
"""Writes the golden files of tests/quant from independent implementations.

Made with gguf 0.19.0, bitsandbytes 0.50.2, torch 2.11.0, numpy 2.4.6:
    python3 tests/quant/golden/make_golden.py
Each line of a file is `key hex`, little-endian bytes; inputs that follow from a formula (`hashed`) are not stored.
"""
import hashlib
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16", "F32"]
QUANTIZED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16", "F16"]
# Byte offsets of the f16 numbers of a block, so that random bits do not make them NaN or infinite.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "F16": [0]}


def hashed(count):
    """Weights from integers alone, exact in f32: multiplicative hash in [-0.5, 0.5), times 2^-(block % 7)."""
    i = np.arange(count, dtype=np.uint64)
    h = ((i * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)) >> np.uint64(8)
    w = h.astype(np.float64) / 2**24 - 0.5
    return (w * 2.0 ** -((i // np.uint64(64)) % np.uint64(7)).astype(np.float64)).astype(np.float32)


def write(path, head, lines):
    text = "".join(f"# {h}\n" for h in head) + "".join(f"{k} {v}\n" for k, v in lines)
    (HERE / path).write_text(text)


def hexed(array):
    return np.ascontiguousarray(array).tobytes().hex()


def random_blocks(rng, name, count, size):
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES.get(name, []):
        exponent = data[:, at + 1] & 0x7C
        data[:, at + 1] = np.where(exponent == 0x7C, data[:, at + 1] & 0xBF, data[:, at + 1])
    if name in ("BF16", "F32"):  # exponent below 255, so no NaN
        data[:, -1] &= 0xBF
    return data


def gguf_files():
    import gguf
    from gguf.quants import dequantize, quantize
    rng = np.random.default_rng(20261124)
    lines = []
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = 3 if block == 256 else 6 if block == 32 else 96
        data = random_blocks(rng, name, count, size)
        values = dequantize(data.reshape(1, -1), kind)
        assert values.dtype == np.float32 and np.isfinite(values).all()
        lines += [(f"{name}.facts", hexed(np.array([kind.value, block, size], dtype="<i8"))),
                  (f"{name}.packed", hexed(data)), (f"{name}.values", hexed(values))]
    write("gguf_dequantize.txt", ["Random blocks of every type and their values by the gguf package 0.19.0."], lines)

    rows = quantizer_input(rng)
    lines = [("input", hexed(rows))]
    for name in QUANTIZED:
        packed = quantize(rows, gguf.GGMLQuantizationType[name])
        lines.append((f"{name}.packed", hexed(packed)))
    write("gguf_quantize.txt", [f"f32 rows {list(rows.shape)} and what the gguf package 0.19.0 quantizes them to."], lines)


def quantizer_input(rng):
    """Rows of 64: Gaussian, constant, ramp, one outlier, zeros, one sign, equal magnitudes of both signs, tiny."""
    k = 64
    rows = [rng.normal(size=k) * s for s in (0.02, 1.0, 300.0)]
    rows += [np.full(k, 0.375), np.full(k, -3.1), np.linspace(-1, 1, k), np.linspace(0.1, 0.2, k)]
    outlier = rng.normal(size=k) * 0.01
    outlier[17] = -9.0
    rows += [outlier, np.zeros(k), np.abs(rng.normal(size=k)), np.where(np.arange(k) % 3 == 0, -0.7, 0.7)]
    rows += [rng.normal(size=k) * 1e-7, np.where(np.arange(k) == 40, 1e-3, 0.0)]
    return np.array(rows, dtype=np.float32)


def nf4_case(lines, key, weight, stored):
    import torch
    import bitsandbytes.functional as F
    w = torch.tensor(weight)
    codes, plain = F.quantize_4bit(w, blocksize=64, quant_type="nf4")
    nested_codes, nested = F.quantize_4bit(w, blocksize=64, quant_type="nf4", compress_statistics=True)
    assert torch.equal(codes, nested_codes)
    values = F.dequantize_4bit(codes, plain).numpy()
    nested_values = F.dequantize_4bit(codes, nested).numpy()
    bf16 = nested_values_bf16(F, codes, nested)
    lines += [(f"{key}.shape", hexed(np.array(weight.shape, dtype="<i8")))]
    lines += [(f"{key}.weight", hexed(weight))] if stored else []
    lines += [(f"{key}.codes", hexed(codes.numpy())), (f"{key}.absmax", hexed(plain.absmax.numpy())),
              (f"{key}.offset", hexed(nested.offset.numpy())), (f"{key}.absmax_codes", hexed(nested.absmax.numpy())),
              (f"{key}.absmax2", hexed(nested.state2.absmax.numpy())),
              (f"{key}.values_sha256", hashlib.sha256(values.tobytes()).hexdigest()),
              (f"{key}.nested_values_sha256", hashlib.sha256(nested_values.tobytes()).hexdigest()),
              (f"{key}.nested_bf16_sha256", hashlib.sha256(bf16.tobytes()).hexdigest())]


def nested_values_bf16(F, codes, state):
    import copy
    import torch
    state = copy.copy(state)
    state.dtype = torch.bfloat16
    return F.dequantize_4bit(codes, state).view(torch.int16).numpy()


def reciprocal_case(rng, code):
    """64 + 30 values, in each half some whose code depends on whether 1/absmax is multiplied or absmax divided by."""
    border = ((code[:-1] + code[1:]) / np.float32(2)).astype(np.float32)
    while True:
        absmax = np.float32(rng.uniform(0.5, 1.0))
        near = (border * absmax).astype(np.float32)
        near = np.concatenate([near] + [np.nextafter(near, np.float32(s)) for s in (-2, 2)])
        differ = near[((near * (np.float32(1) / absmax))[:, None] > border).sum(1) !=
                      ((near / absmax)[:, None] > border).sum(1)]
        if len(differ) >= 3:
            half = np.concatenate([[absmax], differ[:3]]).astype(np.float32)
            return np.concatenate([half, np.zeros(60), half, np.zeros(26)]).astype(np.float32).reshape(2, 47)


def nf4_file():
    import bitsandbytes.functional as F
    rng = np.random.default_rng(20261125)
    lines = [("map", hexed(F.create_dynamic_map().numpy())), ("unsigned_map", hexed(F.create_dynamic_map(signed=False).numpy()))]
    nf4_case(lines, "hashed", hashed(70 * 258).reshape(70, 258), stored=False)
    nf4_case(lines, "tail", (rng.normal(size=(3, 7)) * 0.1).astype(np.float32), stored=True)
    code = F.get_4bit_type("nf4", device="cpu").numpy()
    ties = np.zeros((6, 64), dtype=np.float32)
    ties[0, :15] = (code[:-1] + code[1:]) / np.float32(2)
    ties[0, 15] = 1.0
    ties[1, :15] = np.nextafter(ties[0, :15], np.float32(2))
    ties[1, 15] = -1.0
    ties[3, :2] = [1e-40, -1e-40]
    ties[4, :3] = [1e-38, -1e-38, 5e-39]
    ties[5] = 0.25
    nf4_case(lines, "edges", ties, stored=True)
    nf4_case(lines, "reciprocal", reciprocal_case(rng, code), stored=True)
    import torch
    scales = np.abs(rng.normal(size=3 * 256 + 77)).astype(np.float32) * np.float32(0.05)
    scales[256:512] = np.float32(0.03125)  # a block without spread
    offset = np.float32(0.03125)
    codes, state = F.quantize_blockwise(torch.tensor(scales - offset), blocksize=256)
    lines += [("scales.input", hexed(scales)), ("scales.offset", hexed(offset)), ("scales.codes", hexed(codes.numpy())),
              ("scales.absmax2", hexed(state.absmax.numpy()))]
    write("nf4.txt", ["NF4 by bitsandbytes 0.50.2 on the CPU (torch 2.11.0); `hashed` weights as in make_golden.py."],
          lines)


if __name__ == "__main__":
    gguf_files()
    nf4_file()
    sys.exit(0)
