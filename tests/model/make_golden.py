#!/usr/bin/env python3
"""Reference values of transformers and PEFT for tests/model: tiny random Llamas (stored whole) and SmolLM2 (ids and log-probabilities).

usage: make_golden.py OUT_DIR SMOLLM2.gguf
Made with torch 2.11.0, transformers and peft as named in OUT_DIR/versions.json, f32 on the CPU.
"""
import json
import os
import sys

import numpy as np
import torch
import transformers
import peft
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
out, gguf_path = sys.argv[1], sys.argv[2]
os.makedirs(out, exist_ok=True)
json.dump({"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
          open(f"{out}/versions.json", "w"))


def tokens(n, vocab, seed):
    """The same numbers as the test's: a 64-bit linear congruential generator."""
    state, ids = seed, []
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append((state >> 33) % vocab)
    return ids


def tiny(name, **kw):
    cfg = LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=80, num_hidden_layers=2, rms_norm_eps=1e-5,
                      initializer_range=0.3, **kw)
    model = LlamaForCausalLM(cfg).float().eval()
    for p in model.parameters():  # norm weights that are not all one
        if p.dim() == 1:
            p.data += 0.2 * torch.randn_like(p)
    model.save_pretrained(f"{out}/{name}")
    return model


@torch.no_grad()
def logits_of(model, ids, keep):
    return model(input_ids=torch.tensor([ids])).logits[0, -keep:].float().numpy()


golden = {}
llama3 = dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
m = tiny("tiny-gqa-llama3", num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False,
         max_position_embeddings=131072, rope_theta=500000.0, rope_scaling=llama3, eos_token_id=[1, 2])
golden["tiny-gqa-llama3"] = {"tokens": 9100, "seed": 1, "keep": 4, "logits": logits_of(m, tokens(9100, 96, 1), 4).tolist()}
m = tiny("tiny-tied", num_attention_heads=4, num_key_value_heads=4, head_dim=8, tie_word_embeddings=True, rope_theta=10000.0,
         max_position_embeddings=512, eos_token_id=2)
golden["tiny-tied"] = {"tokens": 60, "seed": 2, "keep": 60, "logits": logits_of(m, tokens(60, 96, 2), 60).tolist()}

# Ten steps of LoRA on the tiny tied model: rows of 24 tokens, the last 8 are targets.
from peft import LoraConfig, get_peft_model
torch.manual_seed(1)
p = get_peft_model(m, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, task_type="CAUSAL_LM", target_modules=[
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
for n, w in p.named_parameters():
    if "lora_B" in n:
        w.data.normal_(0, 0.05)
p.save_pretrained(f"{out}/tiny-tied-adapter")
opt = torch.optim.AdamW([w for w in p.parameters() if w.requires_grad], lr=1e-2, weight_decay=0.0)
losses = []
p.train()
for step in range(10):
    rows = [tokens(24, 96, 100 + 4 * step + r) for r in range(4)]
    ids = torch.tensor(rows)
    labels = ids.clone()
    labels[:, :16] = -100
    loss = p(input_ids=ids, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(p.parameters(), 1.0)
    opt.step()
    opt.zero_grad()
    losses.append(float(loss))
p.save_pretrained(f"{out}/tiny-tied-trained")
golden["training"] = {"losses": losses, "lr": 1e-2, "rows": 4, "length": 24, "targets": 8, "first_seed": 100}

# SmolLM2: ten chatml prompts; greedy ids and top-5 log-probabilities at the prompt's last position and along the answer.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gguf_to_transformers import load_smollm2
model, tok = load_smollm2(gguf_path)
prompts = ["Add two oat milks to my cart.", "What is the capital of France?", "Write a short poem about the sea.",
           "Explain photosynthesis to a child.", "List three fruits that are red.", "¿Dónde está la biblioteca?",
           "Translate 'good morning' to German.", "What is 12 times 7?", "Why is the sky blue?", "Name a famous painter."]
golden["smollm2"] = []
for text in prompts:
    s = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    ids = tok(s, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        full, past = list(ids), None  # by hand: generate() would stop at, or suppress, the end token
        for _ in range(40):
            step = model(input_ids=torch.tensor([full if past is None else full[-1:]]), past_key_values=past, use_cache=True)
            past = step.past_key_values
            full.append(int(step.logits[0, -1].argmax()))
        logits = model(input_ids=torch.tensor([full])).logits[0].float()
    lp = torch.log_softmax(logits.double(), -1)
    top = lp[len(ids) - 1:-1].topk(5)
    golden["smollm2"].append({"text": text, "prompt": ids, "answer": full[len(ids):],
                              "top_ids": top.indices.tolist(), "top_log_probabilities": np.round(top.values.numpy(), 6).tolist(),
                              "max_logit": float(logits.abs().max())})
json.dump(golden, open(f"{out}/golden.json", "w"))
