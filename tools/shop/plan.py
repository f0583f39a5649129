"""Who is on which side: frames, verbs, product families, out-of-scope sentences, distractors; and the product lists.

A side is a matter of rank: the ids of one cell are ordered by a hash of (seed, id) and cut by the shares, so the shares
are exact for every seed, and an id has the same side in all languages.
"""

from . import rng as random_numbers
from .language import Language, load_groups

ACTIONS = ("add", "remove")
OOS_KINDS = ("far", "near", "absent", "sense", "negated", "garbled")
# Of 20. Training leans to the kinds that look like orders.
OOS_MIX = {
    "train": {"far": 2, "near": 4, "absent": 7, "sense": 1, "negated": 5, "garbled": 1},
    "other": {"far": 5, "near": 5, "absent": 3, "sense": 3, "negated": 3, "garbled": 1},
}
LISTS = {"train": 25, "val": 10, "test_iid": 20, "test_both": 20, "test_verb": 20}  # a language
SLICES = ("test_iid", "test_both", "test_verb")


def ranked(seed, cell, ids):
    return sorted(ids, key=lambda i: (random_numbers.hash64(seed, "side", cell, i), i))


def sides_of(seed, cell, ids, num_test, num_val):
    """{id: side} in the order of `ids`."""
    order = ranked(seed, cell, ids)
    side = {i: "test" for i in order[:num_test]}
    side.update({i: "val" for i in order[num_test : num_test + num_val]})
    return {i: side.get(i, "train") for i in ids}


def share(count, percent):
    return (count * percent + 50) // 100


class Plan:
    def __init__(self, seed, codes):
        self.seed = seed
        self.languages = {code: Language(code) for code in codes}
        first = self.languages[codes[0]].data
        for code in codes:
            same_ids(first, self.languages[code].data, code)
        self.frames = {}  # (action, side) -> [frame id]
        self.verbs = {}  # (action, seen | unseen) -> [verb id]
        frame_sides = {
            cell: sides_of(seed, "frames." + cell, ids, share(len(ids), 20), max(1, share(len(ids), 10)))
            for cell, ids in first["frames"].items()
        }
        for action in ACTIONS:
            for side in ("train", "val", "test"):
                self.frames[action, side] = [
                    i for cell in ("both", action) for i, s in frame_sides[cell].items() if s == side
                ]
            ids = list(first["verbs"][action])
            unseen = ranked(seed, "verbs." + action, ids)[: share(len(ids), 20)]
            self.verbs[action, "seen"] = [i for i in ids if i not in unseen]
            self.verbs[action, "unseen"] = [i for i in ids if i in unseen]
        self.oos = {
            kind: sides_of(
                seed,
                "oos." + kind,
                list(first["oos"][kind]),
                share(len(first["oos"][kind]), 20),
                share(len(first["oos"][kind]), 10),
            )
            for kind in ("far", "near", "sense", "negated")
        }
        self.distractors = {
            kind: sides_of(seed, "distractors." + kind, list(ids), share(len(ids), 20), share(len(ids), 10))
            for kind, ids in first["distractors"].items()
        }
        self.groups = load_groups()
        self.families = self.family_sides()
        self.members = {
            family: [f"{family}.{v}" for v in variants]
            for group in self.groups.values()
            for family, variants in group.items()
        }

    def family_sides(self):
        """One family in five of every group is for test, one in every second group for val."""
        sides = {}
        with_val = ranked(self.seed, "groups", list(self.groups))[: (len(self.groups) + 1) // 2]
        for group, families in self.groups.items():
            sides.update(
                sides_of(
                    self.seed,
                    "families." + group,
                    list(families),
                    share(len(families), 20),
                    1 if group in with_val else 0,
                )
            )
        return sides

    def pool(self, side):
        return [family for family, s in self.families.items() if s == side]

    def lists(self, code, name):
        """[{"id", "keys", "gold"}]: product keys as shown, and those of whole families, which requests ask for."""
        side = {"train": "train", "val": "val", "test_iid": "train"}.get(name, "test")
        rng = random_numbers.Rng(self.seed, "lists", name, code)
        sizes = random_numbers.Deck(rng, range(5, 13) if name in ("train", "test_iid") else range(6, 13, 2))
        used = {family: 0 for family in self.pool(side)}
        filler = random_numbers.Deck(rng, self.pool(side if side != "val" else "train"))
        return [
            self.one_list(f"{name}-{code}-{i + 1:02d}", self.languages[code], rng, sizes.draw(), used, filler)
            for i in range(LISTS[name])
        ]

    def one_list(self, list_id, language, rng, size, used, filler):
        """Whole families, those least used so far first, one without sizes and one with; then single others."""
        whole, room = [], size
        while True:
            order = sorted(rng.shuffled(used), key=lambda f: used[f])
            fitting = [f for f in order if f not in whole and len(self.members[f]) <= room]
            if len(whole) < 2:
                sized = len(whole) == 1
                fitting = [f for f in fitting if bool(language.products[self.members[f][0]].size) == sized] or fitting
            if not fitting:
                break
            whole.append(fitting[0])
            used[fitting[0]] += 1
            room -= len(self.members[fitting[0]])
        gold = [key for family in whole for key in self.members[family]]
        shown = list(gold)
        while len(shown) < size:
            family = filler.draw()
            key = rng.choice(self.members[family])
            if family not in whole and key not in shown:
                shown.append(key)
        return {"id": list_id, "keys": rng.shuffled(shown), "gold": gold}


def same_ids(a, b, code):
    """Every language must hold the ids of the first one: a template moves in all languages together."""
    for table in ("frames", "verbs", "oos", "distractors"):
        for cell in a[table]:
            if isinstance(a[table][cell], dict) and list(a[table][cell]) != list(b[table][cell]):
                raise SystemExit(
                    f"tools/shop/lang/{code}.json: {table}.{cell}: ids differ from the first language's: "
                    f"{sorted(set(a[table][cell]) ^ set(b[table][cell]))}"
                )
