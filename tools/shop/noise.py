"""Typing noise: what a hurried thumb does to a request. Digits, number words and first letters are never touched."""

import unicodedata

from . import texts
from .language import CLOSE, OPEN

KINDS = [
    (16, "neighbour"),
    (16, "dropped"),
    (12, "doubled"),
    (12, "swapped"),
    (12, "diacritics"),
    (14, "case"),
    (14, "punctuation"),
    (6, "space"),
    (10, "shorthand"),
    (8, "emoji"),
]
EMOJI = ["🙂", "😊", "🛒", "🙏", "👍", "😅"]
MIN_WORD = 4  # shorter words are left alone: one letter less of them is another word


def word_spans(text, number_words):
    """[begin, end) of the words of at least MIN_WORD letters that are no number words."""
    spans, i = [], 0
    while i < len(text):
        j = i
        while j < len(text) and text[j].isalpha():
            j += 1
        if j - i >= MIN_WORD and text[i:j].casefold() not in number_words:
            spans.append((i, j))
        i = max(j, i + 1)
    return spans


def change_letter(kind, language, text, rng):
    spans = word_spans(text, {w.casefold() for w in language.numbers.values()})
    if not spans:
        return text
    begin, end = rng.choice(spans)
    i = begin + 1 + rng.below(end - begin - 1)
    if kind == "dropped":
        return text[:i] + text[i + 1 :]
    if kind == "doubled":
        return text[:i] + text[i] + text[i:]
    if kind == "swapped":
        i = min(i, end - 2)
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :] if i > begin else text
    for row in language.data["keyboard"]:
        at = row.find(text[i].lower())
        if at >= 0:
            near = [row[k] for k in (at - 1, at + 1) if 0 <= k < len(row)]
            return text[:i] + rng.choice(near) + text[i + 1 :]
    return text


def change_punctuation(text, rng):
    if text[-1] not in ".!?":
        return text
    return text[:-1] if rng.chance(700) else text + text[-1]


def drop_space(language, text, rng):
    numbers = {w.casefold() for w in language.numbers.values()}
    places = []
    for i, c in enumerate(text):
        if c == " " and 0 < i < len(text) - 1 and text[i - 1].isalpha() and text[i + 1].isalpha():
            before, after = text[:i].split(" ")[-1], text[i + 1 :].split(" ")[0]
            if (
                before.casefold() not in numbers
                and after.casefold() not in numbers
                and min(len(before), len(after)) > 1
            ):
                places.append(i)
    if not places:
        return text
    i = rng.choice(places)
    return text[:i] + text[i + 1 :]


def shorten(language, text, rng):
    words = text.split(" ")
    table = language.data["shorthand"]
    places = [i for i, w in enumerate(words) if w.rstrip(",.!?").casefold() in table]
    if not places:
        return text
    i = rng.choice(places)
    bare = words[i].rstrip(",.!?")
    words[i] = table[bare.casefold()] + words[i][len(bare) :]
    return " ".join(words)


def apply(kind, language, text, rng):
    if kind in ("neighbour", "dropped", "doubled", "swapped"):
        return change_letter(kind, language, text, rng)
    if kind == "diacritics":
        return texts.without_marks(text)
    if kind == "case":
        return text.lower()
    if kind == "punctuation":
        return change_punctuation(text, rng)
    if kind == "space":
        return drop_space(language, text, rng)
    if kind == "shorthand":
        return shorten(language, text, rng)
    return text + " " + rng.choice(EMOJI)


def disturb(language, text, rng):
    """One to three kinds of noise; (text, kinds that changed it)."""
    kinds = []
    for _ in range(rng.weighted([(65, 1), (27, 2), (8, 3)])):
        kind = rng.weighted(KINDS)
        changed = unicodedata.normalize("NFC", apply(kind, language, text, rng))
        if kind not in kinds and plain(changed) != plain(text):
            text = changed
            kinds.append(kind)
    return text, kinds


def plain(text):
    return text.replace(OPEN, "").replace(CLOSE, "")
