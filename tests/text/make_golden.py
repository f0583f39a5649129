#!/usr/bin/env python3
"""Writes tests/text/golden: small vocabularies, and what other programs make of the same texts and conversations.

Made with tiktoken 0.14.0, tokenizers 0.23.3, sentencepiece 0.2.3, transformers 5.23.0, Python 3.11.
Usage: SLMI_SMOLLM2_GGUF=... SLMI_LLAMA3_TOKENIZER=... make_golden.py      (both, for the ids of those vocabularies)
After a change of our Jinja texts first: slmi_text_dump --jinja tests/text/golden > /tmp/j && cp /tmp/j tests/text/golden/jinja.json

The templates that conversations are rendered with here are not ours: Llama 3's published one, SmolLM2's own, and a
plain one written by hand. Ours (jinja.json) are rendered too, and must give the same strings.
"""
import base64
import io
import json
import os
from pathlib import Path

import sentencepiece
import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent / "golden"
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                  r"\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
NAMED = {0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 5: "step_id", 6: "start_header_id",
         7: "end_header_id", 8: "eom_id", 9: "eot_id", 10: "python_tag"}

CORPUS = """Add two cartons of oat milk and a dozen eggs to the basket, please. Remove the bread; I don't need it.
What's the weather in Lisbon tomorrow? She'll book a table for 4 people at 19:30. We've got 1234567 reasons.
Bitte füge zwei Packungen Hafermilch und zwölf Eier hinzu. Fügen Sie das Brot nicht hinzu, danke schön!
Añade dos leches de avena y una docena de huevos, por favor. ¿Qué tiempo hará mañana en Málaga?
Добавьте, пожалуйста, два пакета овсяного молока. 请把两盒燕麦奶加到购物车里。 オーツミルクを二つ追加してください。
for (int i = 0; i < n; ++i) { sum += values[i] * weights[i]; }
def main():
    return {"intent": "AddToBasket", "slots": {"product": "oat milk", "quantity": "2"}}
"""

TEXTS = ["", " ", "  ", "   x", "hello", " hello world", "Add two oat milks, please.", "don't DON'T we'll WE'LL I'm 'tis 'S'",
         "'\u017f'\u017f long s", "1234567 and 12 and 1", " 12  34   5", "a1b2c3", "x²y³ Ⅷ ½", "\n", "\n\n", "a\n\n b", "a \n \n  b",
         "\r\n\r\nx", "tabs\t\tand  spaces ", "trailing   ", "\u00a0\u00a0nbsp\u3000wide", "a\u0085b\u2028c",
         "...!? -- __init__(self)", "..\n\n..", " .\r\n!", "émigré ΑΒΓ абв 中文字 にほん 한국어 हिन्दी ไทย", "e\u0301 combining \u0301x",
         "👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ok", "<|eot_id|> <|im_end|> </s>", "for (int i = 0; i < n; ++i) {\n\tsum += v[i];\n}\n",
         '{"intent": "AddToBasket", "slots": {"quantity": "2"}}', "\u0000\u0001\u001c x \u001f", "\U0010ffff\U000e0001",
         "\U00011de3 \U00016ff4 new digits", "a" * 150, "ab" * 80, " " * 200 + "x", "=" * 100 + "\n" * 5, "\u0004\u0006 missing bytes",
         "1\u00a02 3\u20034", "it's'll've", " 's", "\t's \n't", "中文123中文'd", "\ufeffbom", "\u1680ogham\u200bzero",
         "Products", "pleaseaddoatmilktothebasket" * 6, "Hafermilchundzwölf" * 8]

CONVERSATIONS = [
    [("user", "Add two oat milks.")],
    [("system", "You sort requests. Products: oat milk; bread"), ("user", "two oat milks please")],
    [("system", "Be brief."), ("user", "hi"), ("assistant", "Hello!"), ("user", "  remove  the bread \n")],
    [("user", "\n\nstarts with lines, ends with space \u00a0\u001d")],
    [("system", ""), ("user", "")],
    [("user", "quotes ' \" and \\ backslash {{ braces }} {% if %}"), ("assistant", "ok"), ("user", "中文 👩‍👩‍👧")],
]
ANSWERS = ["AddToBasket", '{"intent": "AddToBasket", "slots": {"quantity": "2"}}', "done"]


def byte_alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    out, extra = {}, 0
    for b in range(256):
        out[b] = chr(b) if b in printable else chr(256 + extra)
        extra += b not in printable
    return out


ALPHABET = byte_alphabet()
BYTE_OF = {c: b for b, c in ALPHABET.items()}


def text_of(token):
    return "".join(ALPHABET[b] for b in token)


def bytes_of(text):
    return bytes(BYTE_OF[c] for c in text)


def train_merges():
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=520, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator([CORPUS.replace("\n", "\n\n")] * 3, trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]
    return [(bytes_of(a), bytes_of(b)) for a, b in merges]


def llama3_like(merges):
    """A tiktoken file and a tokenizer.json of one vocabulary, and tiktoken's encoding."""
    tokens = [bytes([b]) for b in range(256)]
    tokens += [a + b for a, b in merges]
    tokens = list(dict.fromkeys(tokens))
    tokens.append(b"Products")  # no merges lead here: only the whole-piece look-up finds it
    ranks = {token: rank for rank, token in enumerate(tokens)}
    lines = [base64.b64encode(token).decode() + f" {rank}" for token, rank in ranks.items()]
    (HERE / "tiny_llama3.model").write_text("\n".join(lines) + "\n")
    all_merges = []
    for token in tokens:
        splits = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        all_merges += [(text_of(a), text_of(b)) for a, b in reversed(splits)]  # in another order than ours: the hash must not care
    hf = Tokenizer(models.BPE(vocab={text_of(t): r for t, r in ranks.items()}, merges=all_merges, ignore_merges=True))
    hf.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    hf.decoder = decoders.ByteLevel()
    plain = Tokenizer.from_str(hf.to_str())
    names = [f"<|{NAMED.get(i, f'reserved_special_token_{i}')}|>" for i in range(256)]
    hf.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    hf.post_processor = processors.TemplateProcessing(  # as in Llama 3's own file
        single=f"{names[0]} $A", pair=f"{names[0]} $A {names[0]} $B", special_tokens=[(names[0], len(tokens))])
    (HERE / "tiny_llama3.json").write_text(hf.to_str())
    encoding = tiktoken.Encoding("tiny", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens={})
    for text in TEXTS:
        assert encoding.encode_ordinary(text) == plain.encode(text).ids, text
    return hf, encoding.encode_ordinary


def gpt2_like(merges, pre_tokenizer, name, missing):
    """A tokenizer.json with the trained merges alone, chatml's special tokens first, some bytes missing."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [ALPHABET[b] for b in range(256) if b not in missing]
    tokens += [text_of(a + b) for a, b in merges]
    tokens = list(dict.fromkeys(tokens))
    hf = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[(text_of(a), text_of(b)) for a, b in merges]))
    hf.pre_tokenizer = pre_tokenizer
    hf.decoder = decoders.ByteLevel()
    plain = Tokenizer.from_str(hf.to_str())
    hf.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in tokens[:3]])
    (HERE / f"{name}.json").write_text(hf.to_str())
    return hf, lambda text: plain.encode(text).ids


def sentencepiece_like():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*CORPUS.splitlines() * 3, *["        if (x)", "    else"] * 5]), model_writer=model, vocab_size=560, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.98,
        allow_whitespace_only_pieces=True, minloglevel=2)
    (HERE / "tiny_sentencepiece.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kind = lambda i: 2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1
    pieces = [[processor.id_to_piece(i), processor.get_score(i), kind(i)] for i in range(processor.get_piece_size())]
    (HERE / "tiny_sentencepiece.json").write_text(json.dumps(pieces) + "\n")
    return processor.encode


# ---- conversations

LLAMA3_TEMPLATE = (  # Meta-Llama-3-8B-Instruct, tokenizer_config.json, with its generation prompt made optional as in 3.1
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
CHATML_TEMPLATE = (  # SmolLM2-135M-Instruct's without its default system turn
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'system' %}{{ '\n\n' }}{% elif m['role'] == 'user' %}"
    "{{ '\n' }}{% else %}{{ eos_token }}{% endif %}{% endfor %}")


def conversations(name, hf, template, jinja, bos, eos, end):
    fast = PreTrainedTokenizerFast(tokenizer_object=hf, bos_token=bos, eos_token=eos, chat_template=template)
    ours = PreTrainedTokenizerFast(tokenizer_object=hf, bos_token=bos, eos_token=eos, chat_template=jinja)
    out = []
    for i, turns in enumerate(CONVERSATIONS):
        messages = [{"role": role, "content": content} for role, content in turns]
        answer = ANSWERS[i % len(ANSWERS)]
        both = messages + [{"role": "assistant", "content": answer}]
        prompt = fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        whole = fast.apply_chat_template(both, tokenize=False)
        assert ours.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == prompt, (name, i)
        assert ours.apply_chat_template(both, tokenize=False) == whole, (name, i)
        ids = lambda text: hf.encode(text, add_special_tokens=False).ids
        whole_ids, stop = ids(whole), hf.token_to_id(end)
        whole_ids = whole_ids[:len(whole_ids) - whole_ids[::-1].index(stop)]  # what follows the answer's end is no target
        out.append({"messages": messages, "answer": answer, "prompt": prompt, "prompt_ids": ids(prompt), "ids": whole_ids})
    return out


def main():
    HERE.mkdir(exist_ok=True)
    merges = train_merges()
    byte_level = lambda regex: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    llama3, llama3_ids = llama3_like(merges)
    gpt2, gpt2_ids = gpt2_like(merges, byte_level(True), "tiny_gpt2", [])
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)])
    smollm, smollm_ids = gpt2_like(merges, digits, "tiny_smollm", [4, 6, 0xF1])
    sp_ids = sentencepiece_like()
    encoders = {"llama3": llama3_ids, "gpt2": gpt2_ids, "smollm": smollm_ids, "sentencepiece": sp_ids}
    cases = [{"text": text, **{name: encode(text) for name, encode in encoders.items()}} for text in TEXTS]
    (HERE / "ids.json").write_text(json.dumps(cases, ensure_ascii=True, indent=0) + "\n")

    splits = {"llama3": pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
              "gpt2": pre_tokenizers.Split(Regex(GPT2_PATTERN), "isolated"),
              "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.Split(Regex(GPT2_PATTERN), "isolated")])}
    pieces = [{"text": text, **{name: [p for p, _ in split.pre_tokenize_str(text)] for name, split in splits.items()}}
              for text in TEXTS]
    (HERE / "pieces.json").write_text(json.dumps(pieces, ensure_ascii=True, indent=0) + "\n")

    jinja = json.loads((HERE / "jinja.json").read_text())
    chat = {"llama3": conversations("llama3", llama3, LLAMA3_TEMPLATE, jinja["llama3"], "<|begin_of_text|>",
                                    "<|eot_id|>", "<|eot_id|>"),
            "chatml": conversations("chatml", smollm, CHATML_TEMPLATE, jinja["chatml"], None, "<|im_end|>", "<|im_end|>"),
            "plain": conversations("plain", llama3, PLAIN_TEMPLATE, jinja["plain"], "<|begin_of_text|>",
                                   "<|end_of_text|>", "<|end_of_text|>")}
    (HERE / "conversations.json").write_text(json.dumps(chat, ensure_ascii=True, indent=0) + "\n")

    real = {}
    if path := os.environ.get("SLMI_LLAMA3_TOKENIZER"):
        from tiktoken.load import load_tiktoken_bpe
        encoding = tiktoken.Encoding("llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=load_tiktoken_bpe(path), special_tokens={})
        real["llama3"] = [encoding.encode_ordinary(text) for text in TEXTS]
    if path := os.environ.get("SLMI_SMOLLM2_GGUF"):
        import gguf
        fields = gguf.GGUFReader(path).fields
        tokens = fields["tokenizer.ggml.tokens"].contents()
        hf = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)},
                                  merges=[tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]))
        hf.pre_tokenizer = digits
        real["smollm2"] = [hf.encode(text).ids for text in TEXTS]
    if real:
        (HERE / "real_ids.json").write_text(json.dumps(real) + "\n")


if __name__ == "__main__":
    main()
