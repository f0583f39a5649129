#!/usr/bin/env python3
"""Makes tests/formats/golden: small files written by other programs, and the frequencies that transformers computes.

Made with safetensors 0.8.0, PEFT 0.21.2, transformers 5.23.0, torch 2.11.0, gguf 0.19.0, on an x86-64 CPU with AVX-512.
Run it in an environment that has these:  python tests/formats/make_golden.py
"""
import json
import pathlib
import struct
import tempfile

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

GOLDEN = pathlib.Path(__file__).parent / "golden"


def write_safetensors():
    """Every dtype that torch and safetensors share, a scalar, an empty tensor and a name outside ASCII."""
    values = torch.arange(6, dtype=torch.float32)
    tensors = {
        "z.f32": values.reshape(2, 3) - 2.5,
        "a.f64": values.double() / 3,
        "b.f16": values.half(),
        "c.bf16": (values * 1.25).bfloat16(),
        "d.i64": torch.tensor([-1, 2**40]),
        "e.i32": torch.tensor([-7], dtype=torch.int32),
        "f.i16": torch.tensor([300], dtype=torch.int16),
        "g.i8": torch.tensor([-3, 4, 5], dtype=torch.int8),
        "h.u8": torch.tensor([200], dtype=torch.uint8),
        "i.bool": torch.tensor([True, False]),
        "j.e4m3": torch.tensor([1.5], dtype=torch.float8_e4m3fn),
        "k.e5m2": torch.tensor([1.5], dtype=torch.float8_e5m2),
        "l.u16": torch.tensor([65535], dtype=torch.uint16),
        "m.u32": torch.tensor([2**32 - 1], dtype=torch.uint32),
        "n.u64": torch.tensor([2**63], dtype=torch.uint64),
        "scalar": torch.tensor(42.0),
        "empty": torch.zeros(0, 3),
        "größe\n\"": torch.ones(1),
    }
    save_file(tensors, GOLDEN / "package.safetensors", metadata={"format": "pt"})


def tiny_model():
    torch.manual_seed(3)
    config = LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, vocab_size=32, max_position_embeddings=64, tie_word_embeddings=True)
    return LlamaForCausalLM(config)


def write_peft():
    """A trained-looking adapter: B is not zero. The base path is replaced, as it says nothing."""
    lora = LoraConfig(r=2, lora_alpha=6, lora_dropout=0.1, target_modules=["q_proj", "v_proj", "down_proj"],
                      task_type="CAUSAL_LM")
    model = get_peft_model(tiny_model(), lora)
    torch.manual_seed(4)
    sums = {}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter)
            sums[name.replace(".default", "")] = float(parameter.data.double().sum())
    model.save_pretrained(GOLDEN / "peft")
    (GOLDEN / "peft" / "README.md").unlink(missing_ok=True)
    (GOLDEN / "peft_sums.json").write_text(json.dumps(sums, indent=1) + "\n")


def rope_cases():
    llama3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8192}
    yield "llama-3.2-1b", dict(head_dim=64, rope_theta=500000.0, rope_scaling=llama3)
    yield "llama-3.1-8b", dict(head_dim=128, rope_theta=500000.0, rope_scaling={**llama3, "factor": 8.0})
    yield "odd-factors", dict(head_dim=32, rope_theta=10000.0, rope_scaling={
        **llama3, "factor": 3.7, "low_freq_factor": 1.3, "high_freq_factor": 5.1,
        "original_max_position_embeddings": 100})
    yield "smollm2", dict(head_dim=64, rope_theta=100000.0)
    yield "llama-2", dict(head_dim=128, rope_theta=10000.0)
    yield "linear", dict(head_dim=64, rope_theta=10000.0, rope_scaling={"rope_type": "linear", "factor": 2.5})


def write_rope():
    """Bits of the f32 inverse frequencies, under the config.json that transformers writes for each case."""
    cases = []
    for name, settings in rope_cases():
        config = LlamaConfig(hidden_size=settings["head_dim"] * 4, num_attention_heads=4, num_key_value_heads=4,
                             num_hidden_layers=1, max_position_embeddings=131072, **settings)
        frequencies = LlamaRotaryEmbedding(config).inv_freq
        bits = [struct.unpack("<I", struct.pack("<f", f))[0] for f in frequencies.tolist()]
        config.architectures = ["LlamaForCausalLM"]
        with tempfile.TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            written = json.loads((pathlib.Path(folder) / "config.json").read_text())
        cases.append({"name": name, "config": written, "inv_freq_bits": bits})
    (GOLDEN / "rope.json").write_text(json.dumps(cases, indent=1) + "\n")


def write_gguf():
    """Metadata of every type and three tensors, by the gguf package."""
    writer = gguf.GGUFWriter(GOLDEN / "package.gguf", "llama")
    writer.add_uint8("test.u8", 255)
    writer.add_int8("test.i8", -1)
    writer.add_uint16("test.u16", 65535)
    writer.add_int16("test.i16", -2)
    writer.add_uint32("test.u32", 2**32 - 1)
    writer.add_int32("test.i32", -3)
    writer.add_float32("test.f32", 1.5)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "größe")
    writer.add_array("test.strings", ["", "a", "bc"])
    writer.add_array("test.ints", [1, -2, 3])
    writer.add_uint64("test.u64", 2**40)
    writer.add_int64("test.i64", -(2**40))
    writer.add_float64("test.f64", 0.1)
    writer.add_tensor("a.weight", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("b.weight", np.arange(4, dtype=np.float16))
    packed = gguf.quants.quantize(np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64),
                                  gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("c.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    write_safetensors()
    write_peft()
    write_rope()
    write_gguf()
