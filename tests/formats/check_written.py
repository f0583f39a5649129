#!/usr/bin/env python3
"""Reads what formats_samples wrote with the programs it is meant for, and compares.

  check_written.py FORMATS_SAMPLES
The program writes a tiny model as a Hugging Face directory (single and sharded), as GGUF, and an adapter into a temporary
folder, and the values it meant as F32 files beside them. Here transformers, PEFT and the gguf package read the files.
Tried with transformers 5.23.0, PEFT 0.21.2, gguf 0.19.0, torch 2.11.0.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM
except ImportError as error:
    print(f"check_written.py: skipped: {error}")
    sys.exit(77)


def check(condition, what):
    if not condition:
        sys.exit(f"check_written.py: {what}")
    print(f"ok: {what}")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run([sys.argv[1], str(folder)], check=True)
        check_models(folder)
        check_gguf(folder)
        check_adapter(folder)


def check_models(folder):
    want = load_file(folder / "single" / "model.safetensors")
    for form in ("single", "sharded"):
        model, info = AutoModelForCausalLM.from_pretrained(folder / form, output_loading_info=True)
        clean = not (info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"])
        check(clean, f"transformers loads {form} without missing, unexpected or mismatched keys")
        state = model.state_dict()
        check(all(torch.equal(state[k], v) for k, v in want.items()), f"{form}: {len(want)} tensors equal")
        config = model.config
        check(config.eos_token_id == [2, 3] and config.bos_token_id == 1, f"{form}: bos and eos list")
        check(config.head_dim == 8 and config.num_key_value_heads == 2, f"{form}: heads")
        check(config.rope_parameters["rope_type"] == "llama3" and config.rope_parameters["rope_theta"] == 500000.0,
              f"{form}: llama3 scaling")
        check(config.dtype == torch.float32, f"{form}: dtype")
        check(model.generation_config.eos_token_id == [2, 3], f"{form}: generation config")
        logits = model(torch.arange(10).reshape(1, 10)).logits
        check(bool(torch.isfinite(logits).all()), f"{form}: runs")


def check_gguf(folder):
    want = load_file(folder / "single" / "model.safetensors")
    reader = gguf.GGUFReader(folder / "model.gguf")
    tensors = {t.name: t for t in reader.tensors}
    check(len(tensors) == len(want), "the gguf package sees all tensors")
    check(reader.fields["llama.attention.head_count_kv"].contents() == 2, "GGUF metadata")
    check(np.array_equal(tensors["token_embd.weight"].data, want["model.embed_tokens.weight"].numpy()), "GGUF embedding")
    q = want["model.layers.1.self_attn.q_proj.weight"].numpy()  # 4 heads of 8 rows: row 2i+j takes row j*4+i
    moved = q.reshape(4, 2, 4, -1).swapaxes(1, 2).reshape(q.shape)
    check(np.array_equal(tensors["blk.1.attn_q.weight"].data, moved), "GGUF q rows as convert_hf_to_gguf.py permutes them")


def check_adapter(folder):
    base = AutoModelForCausalLM.from_pretrained(folder / "single")
    ids = torch.arange(10).reshape(1, 10)
    before = base(ids).logits.detach()
    model = PeftModel.from_pretrained(base, folder / "adapter").eval()
    config = model.peft_config["default"]
    check(config.r == 2 and config.lora_alpha == 8 and set(config.target_modules) == {"q_proj", "down_proj"},
          "PEFT reads the adapter's config")
    state = load_file(folder / "adapter" / "adapter_model.safetensors")
    loaded = {k.replace(".default", ""): v for k, v in model.state_dict().items() if "lora_" in k}
    check(set(loaded) == set(state) and all(torch.equal(loaded[k], v) for k, v in state.items()),
          f"PEFT holds our {len(state)} matrices and no others")
    check(not torch.allclose(model(ids).logits, before), "the adapter changes the logits")
    check(json.loads((folder / "single" / "slmi.json").read_text())["schema"] == 1, "slmi.json")


if __name__ == "__main__":
    main()
