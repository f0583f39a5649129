"""SmolLM2's GGUF as a transformers model in f32: dequantized by the gguf package, Q/K rows back in the rotate-half order."""
import numpy as np
import torch
from gguf import GGUFReader, dequantize
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
import os

NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
         "ffn_norm": "post_attention_layernorm"}


def load_smollm2(path):
    reader = GGUFReader(path)
    key = lambda k: reader.fields["llama." + k].contents()
    config = LlamaConfig(vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data), hidden_size=key("embedding_length"),
                         intermediate_size=key("feed_forward_length"), num_hidden_layers=key("block_count"),
                         num_attention_heads=key("attention.head_count"), num_key_value_heads=key("attention.head_count_kv"),
                         rms_norm_eps=key("attention.layer_norm_rms_epsilon"), rope_theta=key("rope.freq_base"),
                         max_position_embeddings=key("context_length"), tie_word_embeddings=True)
    state = {}
    for t in reader.tensors:
        w = torch.from_numpy(np.ascontiguousarray(dequantize(t.data, t.tensor_type))).float()
        parts = t.name.removesuffix(".weight").split(".")
        if parts[0] == "blk":
            if parts[2] in ("attn_q", "attn_k"):
                heads = config.num_attention_heads if parts[2] == "attn_q" else config.num_key_value_heads
                w = w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
            name = f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        state[name] = w
    model = LlamaForCausalLM(config)
    missing = model.load_state_dict(state, strict=False)
    assert set(missing.missing_keys) <= {"lm_head.weight"} and not missing.unexpected_keys, missing
    model.tie_weights()
    tok = AutoTokenizer.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path))
    return model.float().eval(), tok
