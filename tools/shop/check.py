"""Checks of a written set (the specification's 12 a-f), from the files alone: nothing is asked of the generator.

a  ids are unique
b  no normalised text (letters and digits, case folded) is in two splits
c  no delexicalised text (products and quantities masked) of test_both and test_verb is in train
d  no surface form of a test product is in a train text or catalogue
e  no test row outside test_iid has 0.8 or more Jaccard overlap of character 5-grams with a train row of the same answer
f  answers parse, match `actions`, name a shown product, and their quantity is a positive integer or "all"
Further: m  files are those of the manifest, byte for byte;  n  number words kept for test are in no train text;
         v  no verb of test_verb is in a train row.
c and e look at the clean side of a noisy row.
"""

import hashlib
import json
import os
import re

from . import texts

FILES = ("train", "val", "test_iid", "test_both", "test_verb")
NOTHING = {"action": "none", "product": None, "quantity": None}
MAX_LISTED = 50  # findings listed a check; all are counted
OVERLAP = 0.8


class BadInput(Exception):
    """A file that cannot be read; the message names it and the line."""


def read_json(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {error}") from error


def read_rows(folder):
    rows = []
    for name in FILES:
        path = os.path.join(folder, name + ".jsonl")
        try:
            with open(path, encoding="utf-8", newline="\n") as f:
                for number, line in enumerate(f, 1):
                    row = json.loads(line)
                    row["place"] = f"{name}.jsonl:{number}"
                    rows.append(row)
        except OSError as error:
            raise BadInput(f"{path}: {error}") from error
        except ValueError as error:
            raise BadInput(f"{path}: line {number}: {error}") from error
    return rows


class Findings:
    def __init__(self):
        self.counts, self.listed = {}, []

    def add(self, letter, place, message):
        self.counts[letter] = self.counts.get(letter, 0) + 1
        if self.counts[letter] <= MAX_LISTED:
            self.listed.append({"check": letter, "place": place, "message": message})


def clean_of(row):
    return row["meta"].get("clean", row["text"])


def check_ids(rows, found):
    seen = {}
    for row in rows:
        if row["id"] in seen:
            found.add("a", row["place"], f"id {row['id']} is also at {seen[row['id']]}")
        seen.setdefault(row["id"], row["place"])


def check_repeats(rows, found):
    seen = {}
    for row in rows:
        key = texts.normalised(row["text"])
        first = seen.setdefault(key, row)
        if first["split"] != row["split"]:
            found.add("b", row["place"], f"the text of {first['place']}: {row['text']}")


def mask_pattern(catalog, code):
    """Matches any product or quantity of a text of words joined by single spaces."""
    surfaces = {" ".join(texts.words_of(s)) for p in catalog["products"] for s in p["surfaces"][code]}
    numbers = {" ".join(texts.words_of(w)) for w in catalog["numbers"][code]}
    products = "|".join(re.escape(s) for s in sorted(surfaces, key=lambda s: (-len(s), s)))
    words = "|".join(re.escape(w) for w in sorted(numbers))
    return re.compile(rf"\b(?:(?P<product>{products})|(?P<number>x?\d+x?|{words}))\b")


def delexicalised(pattern, text):
    joined = " ".join(texts.words_of(text))
    return pattern.sub(lambda m: "<product>" if m.group("product") else "<number>", joined)


def check_templates(rows, catalog, found):
    patterns = {code: mask_pattern(catalog, code) for code in catalog["numbers"]}
    train = {}
    for row in rows:
        if row["split"] == "train":
            train.setdefault((row["lang"], delexicalised(patterns[row["lang"]], clean_of(row))), row["place"])
    for row in rows:
        if row["slice"] in ("test_both", "test_verb"):
            masked = delexicalised(patterns[row["lang"]], clean_of(row))
            if (row["lang"], masked) in train:
                found.add("c", row["place"], f"the wording of {train[row['lang'], masked]}: {masked}")


def check_products(rows, catalog, found):
    for code in catalog["numbers"]:
        forms = {
            " ".join(texts.words_of(s)) for p in catalog["products"] if p["side"] == "test" for s in p["surfaces"][code]
        }
        pattern = re.compile(
            r"\b(?:" + "|".join(re.escape(s) for s in sorted(forms, key=lambda s: (-len(s), s))) + r")\b"
        )
        for row in rows:
            if row["split"] != "train" or row["lang"] != code:
                continue
            for where in [row["text"], clean_of(row)] + row["catalog"]:
                hit = pattern.search(" ".join(texts.words_of(where)))
                if hit:
                    found.add("d", row["place"], f"'{hit.group()}' is a product of test: {where}")
                    break


def check_overlap(rows, found):
    by_answer = {}
    for row in rows:
        if row["split"] == "train":
            by_answer.setdefault(row["answer"], []).append((texts.grams(clean_of(row)), row["place"]))
    for row in rows:
        if row["split"] != "test" or row["slice"] == "test_iid":
            continue
        own = texts.grams(clean_of(row))
        for other, place in by_answer.get(row["answer"], []):
            if texts.jaccard(own, other) >= OVERLAP:
                found.add("e", row["place"], f"overlaps {OVERLAP} or more with {place}: {clean_of(row)}")
                break


def answer_problem(row):
    try:
        answer = json.loads(row["answer"])
    except ValueError as error:
        return f"the answer is no JSON: {error}"
    if row["oos"] != (answer == NOTHING) or row["oos"] != (row["actions"] == []):
        return "oos, answer and actions disagree"
    if row["oos"]:
        return "" if row["intent"] == "oos" else f"intent {row['intent']} of an out-of-scope row"
    if not isinstance(answer, dict) or list(answer) != ["action", "product", "quantity"]:
        return "keys are not action, product, quantity"
    if row["actions"] != [answer]:
        return "the answer is not `actions`"
    if answer["action"] != row["intent"] or answer["action"] not in ("add", "remove"):
        return f"action {answer['action']}, intent {row['intent']}"
    if answer["product"] not in row["catalog"]:
        return f"'{answer['product']}' is not shown"
    quantity = answer["quantity"]
    if not (type(quantity) is int and quantity >= 1) and not (quantity == "all" and answer["action"] == "remove"):
        return f"quantity {quantity!r}"
    return "" if json.dumps(answer, ensure_ascii=False) == row["answer"] else "the answer is not in its form"


def check_answers(rows, found):
    for row in rows:
        problem = answer_problem(row)
        if problem:
            found.add("f", row["place"], problem)


def check_manifest(folder, manifest, found):
    for name, expected in manifest["sha256"].items():
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            found.add("m", name, "in the manifest, but not there")
            continue
        with open(path, "rb") as f:
            got = hashlib.sha256(f.read()).hexdigest()
        if got != expected:
            found.add("m", name, f"SHA-256 {got}, the manifest says {expected}")


def check_numbers(rows, catalog, found):
    kept = set(catalog["number_words_of_test"])
    words = {
        code: {" ".join(texts.words_of(w)) for w, n in table.items() if n in kept}
        for code, table in catalog["numbers"].items()
    }
    for row in rows:
        if row["split"] == "train":
            hit = words[row["lang"]] & set(texts.words_of(row["text"]))
            if hit:
                found.add("n", row["place"], f"number words of test: {', '.join(sorted(hit))}")


def verb_of(row):
    parts = row["meta"]["template"].split(".")
    return tuple([row["lang"]] + [parts[-3], parts[-1]]) if len(parts) >= 3 else None


def check_verbs(rows, found):
    train = {verb_of(row) for row in rows if row["split"] == "train"} - {None}
    for row in rows:
        verb = verb_of(row)
        if row["slice"] == "test_verb" and verb in train:
            found.add("v", row["place"], f"verb {verb} is in train")
        if row["slice"] == "test_both" and verb and verb not in train:
            found.add("v", row["place"], f"verb {verb} is not in train")


def check_folder(folder):
    """The report: {"rows", "findings" (how many), "by_check", "listed"}."""
    rows = read_rows(folder)
    catalog, manifest = (read_json(os.path.join(folder, name + ".json")) for name in ("catalog", "manifest"))
    found = Findings()
    check_ids(rows, found)
    check_repeats(rows, found)
    check_templates(rows, catalog, found)
    check_products(rows, catalog, found)
    check_overlap(rows, found)
    check_answers(rows, found)
    check_manifest(folder, manifest, found)
    check_numbers(rows, catalog, found)
    check_verbs(rows, found)
    return {
        "rows": len(rows),
        "findings": sum(found.counts.values()),
        "by_check": {letter: found.counts.get(letter, 0) for letter in "abcdefmnv"},
        "listed": found.listed,
    }
