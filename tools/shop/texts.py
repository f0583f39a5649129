"""What the generator and its checks agree on about texts: normal forms, edit distance, n-grams."""

import unicodedata


def normalised(text):
    """Letters and digits only, case folded; a text without any stays as it is."""
    folded = "".join(c for c in unicodedata.normalize("NFC", text).casefold() if c.isalnum())
    return folded or text


def without_marks(text):
    """Diacritics removed, NFC."""
    kept = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", kept)


def words_of(text):
    """Case-folded words of letters and digits, without diacritics."""
    folded = without_marks(text.casefold())
    return "".join(c if c.isalnum() else " " for c in folded).split()


def edit_distance(a, b):
    """Levenshtein distance."""
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y)))
        previous = row
    return previous[-1]


def nearest(mention, names):
    """(index of the shown name with the smallest edit distance to the mention, that distance, the second smallest)."""
    said = " ".join(words_of(mention))
    distances = [edit_distance(said, " ".join(words_of(name))) for name in names]
    best = min(range(len(names)), key=lambda i: (distances[i], i))
    others = [d for i, d in enumerate(distances) if i != best]
    return best, distances[best], min(others) if others else 1 << 30


def grams(text, n=5):
    """Character n-grams of the words joined by single spaces."""
    joined = " ".join(words_of(text))
    return {joined[i : i + n] for i in range(len(joined) - n + 1)} or {joined}


def jaccard(a, b):
    return len(a & b) / len(a | b) if a or b else 1.0
