"""How a request says how many: digits, number words, articles, dozens, nothing at all, all, and corrections."""

from . import language as lang

WORDS_OF_TEST = (13, 17, 19, 60)  # occur as words only in test
SMALL = list(range(2, 7))
MIDDLE = list(range(7, 13))
LARGE = list(range(13, 21))
TENS = [30, 40, 50, 60]
ODD = [24, 25, 36, 48]  # as digits only

KINDS = [
    (27, "digits"),
    (7, "times"),
    (2, "pieces"),
    (27, "word"),
    (10, "article"),
    (10, "bare"),
    (7, "several"),
    (10, "correction"),
]
KINDS_REMOVE = KINDS + [(14, "all")]


def draw_number(rng, as_word, unseen_words):
    """At least 2. As a word, the numbers kept for test are drawn only where `unseen_words` says so."""
    while True:
        n = rng.choice(rng.weighted([(58, SMALL), (24, MIDDLE), (13, LARGE), (5, TENS if as_word else TENS + ODD)]))
        if not as_word or unseen_words or n not in WORDS_OF_TEST:
            return n


def noun_phrase(language, product, rng, action, unseen_words):
    """A product with a quantity, as lang.Phrase."""
    form = product.forms[0] if rng.chance(750) else rng.choice(product.forms)
    kind = rng.weighted(KINDS_REMOVE if action == "remove" else KINDS)
    return MAKERS[kind](language, product, form, rng, unseen_words)


def digits(language, product, form, rng, unseen_words):
    n = draw_number(rng, False, unseen_words)
    return lang.Phrase(lang.counted(language, product, rng, str(n), n, "acc", form), n, "digits")


def word(language, product, form, rng, unseen_words):
    n = draw_number(rng, True, unseen_words)
    return lang.Phrase(lang.counted(language, product, rng, language.numbers[n], n, "acc", form), n, "word")


def pattern_of(kind):
    def make(language, product, form, rng, unseen_words):
        n = draw_number(rng, False, unseen_words)
        pattern = rng.choice(language.phrases[kind])
        return lang.Phrase(lang.fill(language, product, form, pattern, n, {"n": str(n)}, "acc"), n, kind)

    return make


def article(language, product, form, rng, unseen_words):
    return lang.Phrase(lang.with_article(language, product, rng, "indefinite", "indef", form), 1, "article")


def bare(language, product, form, rng, unseen_words):
    """No number means 1. A plural mass is said with its unit, since `the red apples` could be all of them; what is
    counted by itself takes its article."""
    if form.is_plural or form.plural or rng.chance(400):
        return lang.Phrase(lang.with_article(language, product, rng, "definite", "def", form), 1, "bare")
    return lang.Phrase(
        lang.fill(language, product, form, rng.choice(language.phrases["bare"]), 1, {}, "acc"), 1, "bare"
    )


def several(language, product, form, rng, unseen_words):
    n = int(rng.choice(sorted(language.data["several"])))
    said = rng.choice(language.data["several"][str(n)])
    return lang.Phrase(lang.counted(language, product, rng, said, n, "acc", form), n, "several")


def everything(language, product, form, rng, unseen_words):
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


def correction(language, product, form, rng, unseen_words):
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
