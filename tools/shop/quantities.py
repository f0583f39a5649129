"""How a request says how many: digits, number words, articles, dozens, nothing at all, all, and corrections."""

import copy

from . import language as lang
from .rng import Deck

WORDS_OF_TEST = (13, 17, 19, 60)  # occur as words only in test
SMALL = list(range(2, 7))
MIDDLE = list(range(7, 13))
LARGE = list(range(13, 21))
TENS = [30, 40, 50, 60]
ODD = [24, 25, 36, 48]  # as digits only


class Mix:
    """How often each way to say a number comes, and each range of numbers; shares are weights."""

    def __init__(self, kinds, all_weight, numbers, unseen_words, in_turn=False):
        self.kinds, self.numbers, self.unseen_words = kinds, numbers, unseen_words
        self.kinds_of_removal = kinds + [(all_weight, "all")]
        self.in_turn, self.word_deck, self.form_decks = in_turn, None, {}

    def dealt(self, rng):
        """The mix for one language of one file, with decks of its own where words and forms come in turn."""
        out = copy.copy(self)
        if self.in_turn:
            out.word_deck = Deck(rng, [n for n in SMALL + MIDDLE + LARGE + TENS if n not in WORDS_OF_TEST])
            out.form_decks = {}
        return out

    def form_of(self, product, rng):
        """What the product is called: mostly by its first form, and in turn by that one as often as by the others."""
        if not self.in_turn:
            return product.forms[0] if rng.chance(750) else rng.choice(product.forms)
        others = range(1, len(product.forms))
        deck = self.form_decks.setdefault(product.key, Deck(rng, [0] * max(1, len(others)) + list(others)))
        return product.forms[deck.draw()]


# As people order: most numbers are small.
NATURAL = [
    (27, "digits"),
    (7, "times"),
    (2, "pieces"),
    (27, "word"),
    (10, "article"),
    (10, "bare"),
    (7, "several"),
    (10, "correction"),
]
NATURAL_NUMBERS = {"small": 72, "middle": 17, "large": 8, "tens": 3}
# Training leans to what is harder to learn, and has number words and the forms of a product's name in turn: drawn like
# digits, some words stood there once or twice a language, and a model that has read "vierzehn" three times writes 40.
TRAIN = [
    (14, "digits"),
    (7, "times"),
    (2, "pieces"),
    (32, "word"),
    (10, "article"),
    (9, "bare"),
    (13, "several"),
    (13, "correction"),
]
TRAIN_NUMBERS = {"small": 48, "middle": 24, "large": 20, "tens": 8}
NATURAL_ALL, TRAIN_ALL = 14, 24  # weight of "all", which only a removal can ask for
MIXES = {
    "train": Mix(TRAIN, TRAIN_ALL, TRAIN_NUMBERS, False, in_turn=True),
    "val": Mix(NATURAL, NATURAL_ALL, NATURAL_NUMBERS, False),
    "test_iid": Mix(NATURAL, NATURAL_ALL, NATURAL_NUMBERS, False),
    "test_both": Mix(NATURAL, NATURAL_ALL, NATURAL_NUMBERS, True),
    "test_verb": Mix(NATURAL, NATURAL_ALL, NATURAL_NUMBERS, True),
}


def draw_number(rng, as_word, mix):
    """At least 2. As a word, the numbers kept for test are drawn only where the mix says so."""
    if as_word and mix.word_deck:
        return mix.word_deck.draw()
    ranges = {"small": SMALL, "middle": MIDDLE, "large": LARGE, "tens": TENS if as_word else TENS + ODD}
    while True:
        n = rng.choice(rng.weighted([(weight, ranges[name]) for name, weight in mix.numbers.items()]))
        if not as_word or mix.unseen_words or n not in WORDS_OF_TEST:
            return n


def noun_phrase(language, product, rng, action, mix):
    """A product with a quantity, as lang.Phrase."""
    form = mix.form_of(product, rng)
    kind = rng.weighted(mix.kinds_of_removal if action == "remove" else mix.kinds)
    return MAKERS[kind](language, product, form, rng, mix)


def digits(language, product, form, rng, mix):
    n = draw_number(rng, False, mix)
    return lang.Phrase(lang.counted(language, product, rng, str(n), n, "acc", form), n, "digits")


def word(language, product, form, rng, mix):
    n = draw_number(rng, True, mix)
    return lang.Phrase(lang.counted(language, product, rng, language.numbers[n], n, "acc", form), n, "word")


def pattern_of(kind):
    def make(language, product, form, rng, mix):
        n = draw_number(rng, False, mix)
        pattern = rng.choice(language.phrases[kind])
        return lang.Phrase(lang.fill(language, product, form, pattern, n, {"n": str(n)}, "acc"), n, kind)

    return make


def article(language, product, form, rng, mix):
    return lang.Phrase(lang.with_article(language, product, rng, "indefinite", "indef", form), 1, "article")


def bare(language, product, form, rng, mix):
    """No number means 1. A plural mass is said with its unit, since `the red apples` could be all of them; what is
    counted by itself takes its article."""
    if form.is_plural or form.plural or rng.chance(400):
        return lang.Phrase(lang.with_article(language, product, rng, "definite", "def", form), 1, "bare")
    return lang.Phrase(
        lang.fill(language, product, form, rng.choice(language.phrases["bare"]), 1, {}, "acc"), 1, "bare"
    )


def several(language, product, form, rng, mix):
    n = int(rng.choice(sorted(language.data["several"])))
    said = rng.choice(language.data["several"][str(n)])
    return lang.Phrase(lang.counted(language, product, rng, said, n, "acc", form), n, "several")


def everything(language, product, form, rng, mix):
    table = language.data["all"]
    if product.unit and (product.size or rng.chance(600)):
        said = rng.choice(table["unit"][product.unit[2]])
        return lang.Phrase(lang.counted(language, product, rng, said, 2, "acc", form), "all", "all")
    if product.unit:
        said = rng.choice(table["mass"][form.gender])
        text = said + " " + lang.marked(language.inflect(form.singular, "def", form.gender))
        return lang.Phrase(text, "all", "all")
    said = rng.choice(table["count"][form.gender])
    return lang.Phrase(lang.counted(language, product, rng, said, 2, "def", form), "all", "all")


def correction(language, product, form, rng, mix):
    """`two, no, three`: the last one counts. Inside the phrase or at the sentence's end."""
    first = rng.choice(SMALL + MIDDLE)
    last = rng.choice([n for n in SMALL + MIDDLE if n != first])
    say = (lambda n: language.numbers[n]) if rng.chance(600) else str
    if rng.chance(600):
        said = rng.choice(language.data["corrections"]["inner"]).replace("{a}", say(first)).replace("{b}", say(last))
        return lang.Phrase(lang.counted(language, product, rng, said, last, "acc", form), last, "correction")
    tail = rng.choice(language.data["corrections"]["tail"]).replace("{b}", say(last))
    text = lang.counted(language, product, rng, say(first), first, "acc", form)
    return lang.Phrase(text, last, "correction", tail)


MAKERS = {
    "digits": digits,
    "times": pattern_of("times"),
    "pieces": pattern_of("pieces"),
    "word": word,
    "article": article,
    "bare": bare,
    "several": several,
    "correction": correction,
    "all": everything,
}
