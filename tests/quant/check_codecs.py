#!/usr/bin/env python3
"""Compares slmi's codecs bit for bit with the `gguf` package and with bitsandbytes on the CPU, on real weights.

    check_codecs.py --dump build/release/tests/quant/codec_dump [--gguf MODEL.gguf]

- every tensor of the GGUF (default: $SLMI_SMOLLM2_GGUF), dequantized;
- its first matrices quantized again to every type that both sides write, and those dequantized;
- its first matrices as NF4 with double quantization, given bitsandbytes' offset;
- random blocks of every type, at every SIMD level this CPU has.
Exit code 0: all equal, 1: a difference, 77: a package or the file is missing (the reason is printed).
Tried with gguf 0.19.0, bitsandbytes 0.50.2.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

SKIP = 77
QUANTIZED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16", "F16"]
TYPES = QUANTIZED + ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
LEVELS = {"scalar": [], "avx2": ["avx2", "f16c"], "avx512": ["avx512f", "avx512bw", "avx512vl", "avx512dq"]}


class Check:
    def __init__(self, dump, folder):
        self.dump, self.folder = dump, pathlib.Path(folder)
        self.compared = self.values = self.failures = 0

    def run(self, what, name, shape, level, data):
        source, target = self.folder / "in", self.folder / "out"
        source.write_bytes(data.tobytes())
        command = [self.dump, what, name, str(shape[0]), str(shape[1]), level, str(source), str(target)]
        subprocess.run(command, check=True)
        return target.read_bytes()

    def equal(self, label, got, want):
        self.compared += 1
        self.values += want.size
        got = np.frombuffer(got, dtype=want.dtype)
        kind = {1: np.uint8, 4: np.uint32}[want.dtype.itemsize]
        if got.size != want.size:
            different = [f"{got.size} values, expected {want.size}"]
        else:
            unequal = got.view(kind) != want.reshape(-1).view(kind)
            if want.dtype == np.float32:
                unequal &= ~(np.isnan(got) & np.isnan(want.reshape(-1)))
            different = np.flatnonzero(unequal)
        if len(different):
            self.failures += 1
            print(f"DIFFERENT {label}: {len(different)} of {want.size}, first at {different[0]}")


def check_file(check, path):
    matrices = []
    for tensor in gguf.GGUFReader(path).tensors:
        kind = tensor.tensor_type
        want = dequantize(tensor.data, kind).astype(np.float32, copy=False)
        k = int(tensor.shape[0])
        shape = (want.size // k, k)
        check.equal(f"{tensor.name} {kind.name}", check.run("dequantize", kind.name, shape, "auto", tensor.data), want)
        if shape[0] > 1 and shape[0] < 10000 and len(matrices) < 3:
            matrices.append((tensor.name, want.reshape(shape)))
    return matrices


def check_quantizers(check, matrices):
    for label, weight in matrices:
        for name in QUANTIZED:
            want = quantize(weight, gguf.GGMLQuantizationType[name]).view(np.uint8)
            check.equal(f"{label} to {name}", check.run("quantize", name, weight.shape, "auto", weight), want)


def check_random(check):
    flags = set(next(line for line in open("/proc/cpuinfo") if line.startswith("flags")).split())
    rng = np.random.default_rng(7)
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        shape = (64, 2048)
        data = rng.integers(0, 256, (shape[0], shape[1] // block * size), dtype=np.uint8)
        with np.errstate(all="ignore"):
            want = dequantize(data, kind).astype(np.float32, copy=False)
        for level, needed in LEVELS.items():
            if set(needed) <= flags:
                check.equal(f"random {name} {level}", check.run("dequantize", name, shape, level, data), want)


def check_nf4(check, matrices):
    rng = np.random.default_rng(9)
    odd = (rng.normal(size=(301, 129)) * 0.02).astype(np.float32)
    gaussian = (rng.normal(size=(2048, 2048)) * 0.02).astype(np.float32)
    for label, weight in matrices + [("odd", odd), ("gaussian", gaussian)]:
        codes, state = F.quantize_4bit(torch.tensor(weight), blocksize=64, compress_statistics=True, quant_type="nf4")
        values = F.dequantize_4bit(codes, state).numpy()
        got = check.run("nf4", float(state.offset).hex(), weight.shape, "auto", weight)
        at = 0
        for part, want in [("codes", codes.numpy()), ("absmax codes", state.absmax.numpy()),
                           ("absmax2", state.state2.absmax.numpy()), ("values", values)]:
            check.equal(f"NF4 {label} {part}", got[at:at + want.nbytes], want)
            at += want.nbytes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dump", required=True, help="the program codec_dump")
    parser.add_argument("--gguf", default=os.environ.get("SLMI_SMOLLM2_GGUF"))
    options = parser.parse_args()
    if not options.gguf or not os.path.exists(options.gguf):
        print(f"skipped: no GGUF file ({options.gguf}); set SLMI_SMOLLM2_GGUF or pass --gguf")
        return SKIP
    with tempfile.TemporaryDirectory() as folder:
        check = Check(options.dump, folder)
        matrices = check_file(check, options.gguf)
        check_quantizers(check, matrices)
        check_random(check)
        check_nf4(check, matrices)
    print(f"{check.compared} comparisons, {check.values:,} values, {check.failures} different")
    return 1 if check.failures or check.compared < 300 else 0


if __name__ == "__main__":
    try:
        import numpy as np
        import torch
        import gguf
        from gguf.quants import dequantize, quantize
        import bitsandbytes.functional as F
    except ImportError as error:
        print(f"skipped: {error}")
        sys.exit(SKIP)
    sys.exit(main())
