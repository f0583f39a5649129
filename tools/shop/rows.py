"""Builds the rows of one file: which language, action, template, list and product comes next, and the sentence."""

import json
import re
import unicodedata

from . import language as lang
from . import noise, plan as plans, quantities, texts
from .rng import Deck, Rng

OOS_IN_20 = {"train": 4, "other": 3}  # 20 and 15 %
NOISE_PER_MILLE = {"train": 400, "other": 300}  # rows drawn for typing noise; training leans to what is harder
DISTRACTOR_PER_MILLE = 250  # of the orders
ADJUNCT_PER_MILLE = 200  # of these, in words of their own; the others by a size in the product's name
RAREST_PER_MILLE = 800  # orders of the product of its list that was asked for least so far
BEFORE_PER_MILLE, AFTER_PER_MILLE = 250, 250
MAX_TRIES = 400
NONE_ANSWER = '{"action": "none", "product": null, "quantity": null}'
MIN_OOS_DISTANCE = 0.8  # Jaccard overlap at which an out-of-scope test sentence is too near to a training one


def kind_of_file(name):
    return "train" if name == "train" else "other"


class Draft:
    """A request being written."""

    def __init__(self):
        self.text_marked, self.template, self.keys, self.quantity = "", "", [], None
        self.number, self.distractor, self.kind = "", "", ""


class LanguageState:
    """Decks of one language in one file, so that every prefix of the file is balanced."""

    def __init__(self, plan, code, name, rng):
        self.language, self.rng = plan.languages[code], rng
        self.lists = plan.lists(code, name)
        self.list_deck = Deck(rng, range(len(self.lists)))
        self.mix = quantities.MIXES[name].dealt(rng)
        self.asked = {}  # product key -> orders written
        out_of_20 = OOS_IN_20[kind_of_file(name)]
        self.scope = Deck(rng, [True] * (20 - out_of_20) + [False] * out_of_20)
        self.actions = Deck(rng, plans.ACTIONS)
        self.oos_kinds = Deck(rng, [k for k, n in plans.OOS_MIX[kind_of_file(name)].items() for _ in range(n)])
        frame_side = {"train": "train", "val": "val", "test_iid": "train"}.get(name, "test")
        verb_side = "unseen" if name == "test_verb" else "seen"
        self.templates = {
            a: Deck(rng, [(f, v) for f in plan.frames[a, frame_side] for v in plan.verbs[a, verb_side]])
            for a in plans.ACTIONS
        }
        self.sentences = {
            kind: Deck(rng, [i for i, s in sides.items() if s == frame_side]) for kind, sides in plan.oos.items()
        }
        allowed = {"train": ("train",), "test_iid": ("train",), "val": ("train", "val")}.get(name, ("train", "test"))
        self.distractors = {}
        for kind, sides in plan.distractors.items():
            train = [i for i, s in sides.items() if s == "train"]
            own = [i for i, s in sides.items() if s in allowed and s != "train"]
            self.distractors[kind] = Deck(rng, train) if not own else (Deck(rng, train), Deck(rng, own))


class Builder:
    """Writes files one after the other and remembers what they hold, so that none repeats another's text."""

    def __init__(self, seed, codes):
        self.plan = plans.Plan(seed, codes)
        self.seed, self.codes = seed, codes
        self.seen_texts = set()
        self.seen_pairs = set()  # (language, template, product) of train
        self.seen_products = set()  # (language, product) asked for in train
        self.oos_grams = []  # of train

    def build(self, name, count):
        rng = Rng(self.seed, "rows", name)
        states = [LanguageState(self.plan, code, name, Rng(self.seed, "rows", name, code)) for code in self.codes]
        rows = []
        for i in range(count):
            rows.append(self.row(name, i, states[i % len(states)]))
        return rows

    def row(self, name, index, state):
        shown = state.lists[state.list_deck.draw()]
        in_scope = state.scope.draw()
        action = state.actions.draw() if in_scope else None
        kind = None if in_scope else state.oos_kinds.draw()
        template = state.templates[action].draw() if in_scope else None
        for _ in range(MAX_TRIES):
            draft = (
                self.order(state, name, shown, action, template)
                if in_scope
                else self.out_of_scope(state, name, shown, kind)
            )
            clean = finish(draft.text_marked)
            text, kinds = clean, []
            if state.rng.chance(NOISE_PER_MILLE[kind_of_file(name)]) and kind != "garbled":
                noisy, kinds = noise.disturb(state.language, draft.text_marked, state.rng)
                text = finish(noisy)
                if not self.still_nearest(state, shown, draft, noisy):
                    continue
            if not self.still_nearest(state, shown, draft, draft.text_marked):
                continue
            if self.acceptable(state, name, draft, text, clean):
                if in_scope:
                    state.asked[draft.keys[0]] = state.asked.get(draft.keys[0], 0) + 1
                return self.finished(name, index, state, shown, draft, text, clean, kinds)
        raise SystemExit(
            f"make-shop: {name} row {index + 1}: no new text after {MAX_TRIES} tries; fewer rows, or more sentences "
            f"in tools/shop/lang/{state.language.code}.json"
        )

    def still_nearest(self, state, shown, draft, marked):
        """The product said must be the nearest shown name; one that is not shown must not be near any."""
        if not draft.keys or draft.kind not in ("", "absent"):
            return True
        mention = " ".join(re.findall(f"{lang.OPEN}(.*?){lang.CLOSE}", marked))
        names = [state.language.products[key].name for key in shown["keys"]]
        best, distance, second = texts.nearest(mention, names)
        if draft.kind == "absent":
            return 5 * distance >= 2 * len(mention)
        return shown["keys"][best] == draft.keys[0] and distance < second

    def acceptable(self, state, name, draft, text, clean):
        code = state.language.code
        own = {texts.normalised(text), texts.normalised(clean)}
        if not own.isdisjoint(self.seen_texts):
            return False
        pair = (code, draft.template, draft.keys[0]) if draft.kind == "" else None
        if name == "test_iid" and pair in self.seen_pairs:
            return False
        if draft.kind:
            grams = texts.grams(clean)
            if name in ("test_both", "test_verb") and any(
                texts.jaccard(grams, g) >= MIN_OOS_DISTANCE for g in self.oos_grams
            ):
                return False
            if name == "train":
                self.oos_grams.append(grams)
        elif name == "train":
            self.seen_pairs.add(pair)
            self.seen_products.add((code, draft.keys[0]))
        self.seen_texts.update(own)
        return True

    # --- orders

    def order(self, state, name, shown, action, template):
        frame, verb = template
        draft = Draft()
        draft.template = f"{action}.{frame}.{verb}"
        rng, language = state.rng, state.language
        gold = shown["gold"]
        if name == "test_iid":  # few training rows may not have asked for every product
            gold = [k for k in gold if (language.code, k) in self.seen_products] or gold
        sized = [k for k in gold if language.products[k].size]
        plain = [k for k in gold if not language.products[k].size]
        adjunct = False
        pool = plain or sized
        if rng.chance(DISTRACTOR_PER_MILLE):
            adjunct = rng.chance(ADJUNCT_PER_MILLE)
            pool = pool if adjunct else sized or plain
        least = min(state.asked.get(k, 0) for k in pool)  # every product about as often as the lists allow
        rarest = [k for k in pool if state.asked.get(k, 0) == least]
        key = rng.choice(rarest if rng.chance(RAREST_PER_MILLE) else pool)
        self.say_order(state, name, draft, action, frame, verb, key, adjunct)
        return draft

    def say_order(self, state, name, draft, action, frame, verb, key, adjunct):
        rng, language = state.rng, state.language
        product = language.products[key]
        said = quantities.noun_phrase(language, product, rng, action, state.mix)
        draft.keys, draft.quantity, draft.number = [key], said.quantity, said.kind
        if product.size:
            draft.distractor = "size"
        object_text, sentence = said.text, ""
        if adjunct:
            kind = rng.choice(["inline", "sentence"])
            deck = state.distractors[kind]
            which = (deck[rng.below(2)] if isinstance(deck, tuple) else deck).draw()
            draft.distractor = which
            words = self.values(state, language.data["distractors"][kind][which])
            if kind == "inline":
                object_text += " " + words
            else:
                sentence = words
        frames = language.data["frames"]
        pattern = frames["both"].get(frame) or frames[action][frame]
        for form, words in language.data["verbs"][action][verb].items():
            pattern = pattern.replace("{" + form + "}", words)
        base = insert_tail(pattern.replace("{x}", object_text), said.tail)
        around = [base]
        if sentence:
            around.insert(rng.below(2), sentence)
        draft.text_marked = self.with_pleasantries(state, around)

    def with_pleasantries(self, state, sentences):
        rng, table = state.rng, state.language.data["pleasantries"]
        sentences = list(sentences)
        if rng.chance(BEFORE_PER_MILLE):
            sentences.insert(0, rng.choice(table["before"]))
        if rng.chance(AFTER_PER_MILLE):
            sentences.append(rng.choice(table["after"]))
        text = ""
        for sentence in sentences:
            text += (" " if text else "") + (sentence if text.endswith(",") else capitalised(sentence))
        return text

    def values(self, state, pattern):
        """Cities, names, numbers and prices in a sentence of the data file."""
        rng, data = state.rng, state.language.data
        city, city2 = rng.shuffled(data["cities"])[:2]
        name, name2 = rng.shuffled(data["names"])[:2]
        price = rng.choice(data["price"]).replace("{e}", str(1 + rng.below(9))).replace("{c}", str(10 + rng.below(90)))
        table = {
            "city": city,
            "city2": city2,
            "name": name,
            "name2": name2,
            "price": price,
            "n": str(4 + rng.below(17)),
            "m": str(4 + rng.below(17)),
            "big": str(1000 + rng.below(9000)),
        }
        for key, value in table.items():
            pattern = pattern.replace("{" + key + "}", value)
        return pattern

    # --- out of scope

    def out_of_scope(self, state, name, shown, kind):
        draft = Draft()
        draft.kind = kind
        if kind == "absent":
            return self.absent(state, name, shown, draft)
        if kind == "garbled":
            draft.template = "garbled"
            draft.text_marked = self.garbled(state)
            return draft
        which = state.sentences[kind].draw()
        draft.template = f"{kind}.{which}"
        sentence = self.values(state, state.language.data["oos"][kind][which])
        sentence = self.with_product(state, name, shown, draft, sentence)
        draft.text_marked = self.with_pleasantries(state, [sentence])
        return draft

    def with_product(self, state, name, shown, draft, sentence):
        rng, language = state.rng, state.language
        for slot in ("{x}", "{the}", "{the_acc}", "{the_of}"):
            if slot not in sentence:
                continue
            key = rng.choice(shown["keys"])
            product = language.products[key]
            draft.keys = [key]
            if slot == "{x}":
                said = quantities.noun_phrase(language, product, rng, "add", state.mix)
                while said.kind == "correction":
                    said = quantities.noun_phrase(language, product, rng, "add", state.mix)
                text = said.text
            else:
                text = lang.definite(language, product, rng, slot == "{the}")
            if slot == "{the_of}":
                contracted = "del " + text[3:] if text.startswith("el ") else "de " + text
                sentence = sentence.replace("de {the_of}", contracted)
            sentence = sentence.replace(slot, text)
        return sentence

    def absent(self, state, name, shown, draft):
        """A proper order of a product whose family is not shown."""
        side = {"train": "train", "val": "val", "test_iid": "train"}.get(name, "test")
        shown_families = {key.split(".")[0] for key in shown["keys"]}
        pool = [f for f in self.plan.pool(side) if f not in shown_families]
        pool = pool or [f for f in self.plan.pool("train") if f not in shown_families]
        action = state.rng.choice(plans.ACTIONS)
        frame, verb = state.templates[action].draw()
        draft.template = f"absent.{action}.{frame}.{verb}"
        key = state.rng.choice(self.plan.members[state.rng.choice(pool)])
        self.say_order(state, name, draft, action, frame, verb, key, state.rng.chance(DISTRACTOR_PER_MILLE // 2))
        return draft

    def garbled(self, state):
        """Keys hit at random, or half a word: nothing that asks for anything."""
        rng, data = state.rng, state.language.data
        if rng.chance(250):
            return (
                rng.choice(data["oos"]["garbled"])
                + rng.choice([" ", "... ", ", "])
                + rng.choice(data["oos"]["garbled"])
                + rng.choice(["", "...", "?", "!", " ..."])
            )
        words = []
        for _ in range(1 + rng.below(3)):
            row = rng.choice(data["keyboard"])
            words.append("".join(rng.choice(row) for _ in range(2 + rng.below(6))))
        return " ".join(words) + rng.choice(["", "", "?", "..."])

    # --- the finished row

    def finished(self, name, index, state, shown, draft, text, clean, kinds):
        language = state.language
        products = language.products
        if draft.kind:
            action, actions, answer, intent = "none", [], NONE_ANSWER, "oos"
        else:
            action = intent = draft.template.split(".")[0]
            actions = [{"action": action, "product": products[draft.keys[0]].name, "quantity": draft.quantity}]
            answer = json.dumps(actions[0], ensure_ascii=False)
        meta = {"template": draft.template, "list": shown["id"]}
        if draft.keys:
            meta["products"] = draft.keys
        if draft.kind:
            meta["kind"] = draft.kind
        if draft.number:
            meta["number"] = draft.number
        if draft.distractor:
            meta["distractor"] = draft.distractor
        if kinds:
            meta["noise"] = kinds
            meta["clean"] = clean
        split = name if name in ("train", "val") else "test"
        return {
            "id": f"shop-{name}-{index + 1:04d}",
            "text": text,
            "intent": intent,
            "lang": language.code,
            "domain": "shop",
            "split": split,
            "oos": bool(draft.kind),
            "slice": name,
            "catalog": [products[key].name for key in shown["keys"]],
            "actions": actions,
            "answer": answer,
            "meta": meta,
        }


def capitalised(sentence):
    for i, c in enumerate(sentence):
        if c.isalpha():
            return sentence[:i] + c.upper() + sentence[i + 1 :]
        if c.isdigit():
            return sentence
    return sentence


def insert_tail(sentence, tail):
    """A correction goes before the sentence's last mark."""
    return sentence[:-1] + tail + sentence[-1] if sentence[-1] in ".?!" else sentence + tail


def finish(text):
    """Without marks, NFC, single spaces, no space before a comma and no doubled comma."""
    text = noise.plain(text)
    text = re.sub(r" +", " ", text).strip()
    text = re.sub(r",(?=[.?!])", "", re.sub(r" ,", ",", text))
    return unicodedata.normalize("NFC", text)
