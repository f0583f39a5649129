"""What the tools that run transformers + PEFT beside slmi share: the order of rows, their ids, and padded batches.

The order is computed here from the papers, and the ids come from the tokenizer they are given: nothing of slmi's is used.
"""
import json

import torch

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MASK = (1 << 64) - 1


# ---- the order of rows: SplitMix64, xoshiro256** and Lemire's bounded numbers, from their papers

def splitmix64(state):
    state = (state + 0x9E3779B97F4A7C15) & MASK
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return state, z ^ (z >> 31)


class Xoshiro:
    def __init__(self, seed):
        self.s = []
        for _ in range(4):
            seed, value = splitmix64(seed)
            self.s.append(value)

    def next(self):
        rotl = lambda x, k: ((x << k) | (x >> (64 - k))) & MASK  # noqa: E731
        s = self.s
        result = rotl(s[1] * 5 & MASK, 7) * 9 & MASK
        t = s[1] << 17 & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotl(s[3], 45)
        return result

    def below(self, bound):
        while True:
            product = self.next() * bound
            if product & MASK >= (1 << 64) % bound:
                return product >> 64


def permutation(n, seed, stream):
    order = list(range(n))
    rng = Xoshiro(seed ^ splitmix64(stream)[1])
    for i in range(n, 1, -1):
        j = rng.below(i)
        order[i - 1], order[j] = order[j], order[i - 1]
    return order


# ---- rows as strings and ids

def prompt_of(text):
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def answer_of(row):
    return {"intent": row["intent"], "slots": row["slots"]}


def target_of(row):
    """What the model is to write: the label alone where a row has no slots."""
    return json.dumps(answer_of(row), ensure_ascii=False) if "slots" in row else row["intent"]


def encode(tokenizer, rows):
    """(ids, first target) of each intent row."""
    out = []
    for row in rows:
        target = target_of(row) + "<|im_end|>"
        prompt = tokenizer(prompt_of(row["text"]), add_special_tokens=False)["input_ids"]
        out.append((prompt + tokenizer(target, add_special_tokens=False)["input_ids"], len(prompt)))
    return out


def collate(rows):
    width = max(len(ids) for ids, _ in rows)
    ids, mask, labels = (torch.full((len(rows), width), fill) for fill in (0, 0, -100))
    for i, (row, begin) in enumerate(rows):
        ids[i, :len(row)] = torch.tensor(row)
        mask[i, :len(row)] = 1
        labels[i, begin:len(row)] = torch.tensor(row[begin:])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
