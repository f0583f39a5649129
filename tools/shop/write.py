"""The set as bytes: JSONL files, catalog.json and manifest.json, written whole or not at all."""

import hashlib
import json
import os

from . import noise, plan as plans, quantities, rows as building

GENERATOR, VERSION = "make-shop", 2
DEFAULTS = {"seed": 25102197, "langs": "en,de,es", "rows": 4800, "val_rows": 300, "test_rows": 600}


def counted(values):
    """{value: how often}, in order of the value."""
    counts = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return {key: counts[key] for key in sorted(counts)}


def counts_of(rows):
    orders = [r for r in rows if not r["oos"]]
    return {
        "rows": len(rows),
        "lang": counted(r["lang"] for r in rows),
        "intent": counted(r["intent"] for r in rows),
        "oos_kind": counted(r["meta"]["kind"] for r in rows if r["oos"]),
        "number": counted(r["meta"]["number"] for r in orders),
        "distractor": sum("distractor" in r["meta"] for r in orders),
        "noisy": sum("noise" in r["meta"] for r in rows),
        "templates": len({(r["lang"], r["meta"]["template"]) for r in orders}),
        "products": len({r["meta"]["products"][0] for r in orders}),
        "lists": len({r["meta"]["list"] for r in rows}),
    }


def catalog_of(plan):
    products = []
    for group, families in plan.groups.items():
        for family in families:
            for key in plan.members[family]:
                seen = {code: language.products[key] for code, language in plan.languages.items()}
                products.append(
                    {
                        "key": key,
                        "group": group,
                        "family": family,
                        "side": plan.families[family],
                        "names": {code: p.name for code, p in seen.items()},
                        "surfaces": {code: p.surfaces() for code, p in seen.items()},
                    }
                )
    return {
        "products": products,
        "numbers": {
            code: {word: n for n, word in language.numbers.items()} for code, language in plan.languages.items()
        },
        "number_words_of_test": list(quantities.WORDS_OF_TEST),
    }


def manifest_of(options, plan, counts, hashes):
    return {
        "generator": GENERATOR,
        "version": VERSION,
        "options": options,
        "shares": {
            "oos": {file: n / 20 for file, n in building.OOS_IN_20.items()},
            "oos_kinds_of_20": plans.OOS_MIX,
            "noise_per_mille": building.NOISE_PER_MILLE,
            "numbers": {
                file: {"kinds": {k: w for w, k in mix.kinds_of_removal}, "ranges": mix.numbers, "in_turn": mix.in_turn}
                for file, mix in quantities.MIXES.items()
            },
            "noise_kinds": {kind: weight for weight, kind in noise.KINDS},
            "distractor_per_mille": building.DISTRACTOR_PER_MILLE,
            "lists_a_language": plans.LISTS,
        },
        "sides": {
            "families": {side: plan.pool(side) for side in ("train", "val", "test")},
            "frames": {f"{action}.{side}": ids for (action, side), ids in plan.frames.items()},
            "verbs": {f"{action}.{side}": ids for (action, side), ids in plan.verbs.items()},
            "oos": {
                kind: {side: [i for i, s in sides.items() if s == side] for side in ("train", "val", "test")}
                for kind, sides in plan.oos.items()
            },
        },
        "counts": counts,
        "sha256": hashes,
    }


def lines_of(rows):
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows).encode()


def document(value):
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def generate(options):
    """{file name: bytes} of the whole set."""
    builder = building.Builder(options["seed"], options["langs"].split(","))
    sizes = [("train", options["rows"]), ("val", options["val_rows"])] + [
        (s, options["test_rows"]) for s in plans.SLICES
    ]
    files, counts = {}, {}
    for name, size in sizes:
        rows = builder.build(name, size)
        files[name + ".jsonl"] = lines_of(rows)
        counts[name] = counts_of(rows)
    files["catalog.json"] = document(catalog_of(builder.plan))
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files["manifest.json"] = document(manifest_of(options, builder.plan, counts, hashes))
    return files


def save(files, folder):
    """Each file under a temporary name first, the manifest last."""
    os.makedirs(folder, exist_ok=True)
    for name, data in files.items():
        path = os.path.join(folder, name)
        with open(path + ".tmp", "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(path + ".tmp", path)
