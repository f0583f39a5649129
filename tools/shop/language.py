"""One language: its data file, its products in every form they are said in, and noun phrases with a quantity.

A data file (lang/*.json) holds all there is of a language: articles and adjective endings by gender and case, units,
number words, products, verb phrases, frames, pleasantries, distractors, out-of-scope sentences. A form is written
`singular/plural:gender` where it is counted, `mass:gender` where a unit counts it; ` = ` introduces a synonym; `~`
marks where an adjective takes its ending (`griechisch~ Joghurt:m`).
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
OPEN, CLOSE = "\x01", "\x02"  # around the words that name the product, until the row is finished


class Form:
    """One way to name a product: `singular`, and `plural` where it can be counted without a unit."""

    def __init__(self, text):
        words, _, self.gender = text.strip().rpartition(":")
        parts = words.split("/")
        self.singular = parts[0]
        self.plural = parts[1] if len(parts) > 1 else None
        self.is_plural = self.gender.endswith("p")


class Product:
    """A product as one language sees it."""

    def __init__(self, language, key, family, forms, size):
        self.language, self.key, self.family, self.forms = language, key, family, forms
        self.size = size
        unit = language.families[family].get("unit")
        self.unit = language.units[unit] if unit else None  # [singular, plural, gender]
        self.labelled = language.families[family].get("labelled", False)
        name = language.inflect(forms[0].singular, "nom", forms[0].gender)
        self.name = name[0].upper() + name[1:] + (" " + size if size else "")

    def surfaces(self):
        """All forms in which this product can be said, with every adjective ending."""
        found = {self.name}
        for form in self.forms:
            for words, gender in ((form.singular, form.gender), (form.plural, "p")):
                if words:
                    for case in list(self.language.endings) or [""]:
                        said = self.language.inflect(words, case, gender)
                        found.add(said)
                        if self.size:
                            found.add(f"{said} {self.size}")
        return sorted(found)


class Language:
    def __init__(self, code):
        with open(HERE / "lang" / f"{code}.json", encoding="utf-8") as f:
            data = json.load(f)
        self.code = code
        self.data = data
        self.units, self.families, self.endings = data["units"], data["families"], data["endings"]
        self.numbers = {int(k): v for k, v in data["numbers"].items()}
        self.phrases = data["phrases"]
        self.products = {}  # key -> Product, in the order of products.json
        for group in load_groups().values():
            for family, variants in group.items():
                entry = self.families[family]
                for i, variant in enumerate(variants):
                    text = entry["form"] if "form" in entry else entry["forms"][i]
                    gender = text.split(" = ")[0].rpartition(":")[2]
                    forms = [Form(t if ":" in t else f"{t}:{gender}") for t in text.split(" = ")]
                    size = entry["sizes"][i] if "form" in entry else None
                    key = f"{family}.{variant}"
                    self.products[key] = Product(self, key, family, forms, size)

    def inflect(self, words, case, gender):
        """`griechisch~ Joghurt` with the ending of the case: nom and acc (no article), nom_def, indef, def."""
        if "~" not in words:
            return words
        return words.replace("~", self.endings[case][gender])


def load_groups():
    """{group: {family: [variant, ...]}} in the order of the file."""
    with open(HERE / "products.json", encoding="utf-8") as f:
        return json.load(f)


class Phrase:
    """A noun phrase, its quantity as the answer has it, and how that was said."""

    def __init__(self, text, quantity, kind, tail=""):
        self.text, self.quantity, self.kind, self.tail = text, quantity, kind, tail


def marked(text):
    return OPEN + text + CLOSE


def fill(language, product, form, pattern, count, values, case):
    """A pattern of the data file with unit, noun, mass, name and size in the right number and case."""
    size = product.size or ""
    many = count != 1
    if product.unit:
        values["unit"] = product.unit[1 if many else 0]
    noun = language.inflect(
        form.plural if many and form.plural else form.singular, case, "p" if many and form.plural else form.gender
    )
    bare = language.inflect(form.singular, "acc", form.gender)
    values.update(
        noun=marked(noun), mass=marked(bare), name=marked(bare + (" " + size if size else "")), size=marked(size)
    )
    values["size-"] = OPEN + size.replace(" ", "-") + CLOSE
    for key, value in values.items():
        pattern = pattern.replace("{" + key + "}", value)
    return pattern


def counted(language, product, rng, quantity_text, count, case, form):
    """`quantity_text` + unit and product, or + noun."""
    kind = (
        "count"
        if not product.unit
        else "unit" if not product.size else "unit_labelled" if product.labelled else "unit_sized"
    )
    return fill(language, product, form, rng.choice(language.phrases[kind]), count, {"q": quantity_text}, case)


def with_article(language, product, rng, kind, case, form):
    """`a carton of whole milk`, `the carton of whole milk`, `ein Buttercroissant`."""
    gender = product.unit[2] if product.unit else form.gender
    text = counted(language, product, rng, "{q}", 1, case, form)
    following = text.split("{q} ", 1)[1].replace(OPEN, "")
    said = language.data["articles"][kind][gender]
    if isinstance(said, list):
        said = rng.choice(said)
    vowel = language.data.get("vowel_article")
    if vowel and said == vowel[0] and following[:1].lower() in "aeiou8":
        said = vowel[1]
    return text.replace("{q}", said, 1)


def definite(language, product, rng, nominative):
    """`the whole milk`, `der griechische Joghurt`, `la bolsa de manzanas rojas`: for questions about one product."""
    form = product.forms[0]
    kind = "nominative" if nominative and "nominative" in language.data["articles"] else "definite"
    articles = language.data["articles"][kind]
    case = "nom_def" if kind == "nominative" else "def"
    if product.unit and (product.size or form.is_plural):
        text = counted(language, product, rng, articles[product.unit[2]], 1, case, form)
        return text
    return articles[form.gender] + " " + marked(language.inflect(form.singular, case, form.gender))
