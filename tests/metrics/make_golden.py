"""Writes golden/statistics.json and golden/labels.json: what scipy, numpy, scikit-learn and exact fractions say.

Made with Python 3.11, scipy 1.17.1, numpy 2.4.6, scikit-learn 1.9.1. Run: python tests/metrics/make_golden.py
"""
import json
import math
import random
from fractions import Fraction
from pathlib import Path

import numpy
import scipy.stats
import sklearn.metrics

HERE = Path(__file__).parent / "golden"


def mcnemar(lost, gained):
    """Two-sided tail of a fair coin in exact fractions."""
    n, k = lost + gained, min(lost, gained)
    term, tail = 1, 0
    for i in range(k + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))


def smallest_drop(n, discordant):
    """By trying every split."""
    changed = discordant
    while changed <= n and mcnemar(changed, 0) > 0.05:
        changed += 1
    if changed > n:
        return None
    return min(2 * lost - changed for lost in range((changed + 1) // 2, changed + 1)
               if mcnemar(lost, changed - lost) <= 0.05) / n


def statistics():
    wilson = []
    for k, n, confidence in [(0, 1, .95), (1, 1, .95), (0, 700, .95), (700, 700, .95), (469, 700, .95), (7, 13, .95),
                             (97, 100, .99), (1, 100000, .95), (50, 100, .5)]:
        ci = scipy.stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
        wilson.append([k, n, confidence, ci.low, ci.high])
    pairs = [(0, 0), (1, 0), (0, 5), (6, 0), (5, 5), (6, 5), (10, 2), (25, 40), (0, 40), (480, 520), (1000, 1200),
             (4900, 5100), (3000, 7000), (49000, 51000), (17, 3), (100, 900)]
    tests = [[a, b, mcnemar(a, b)] for a, b in pairs]
    for a, b, p in tests:  # the two references agree
        if a + b > 0:
            assert math.isclose(p, scipy.stats.binomtest(a, a + b, 0.5).pvalue, rel_tol=1e-9), (a, b)
    drops = [[n, d, smallest_drop(n, d)] for n, d in
             [(5, 0), (6, 0), (700, 0), (700, 3), (700, 7), (700, 20), (700, 101), (13, 13), (300, 299)]]
    values = [3.5, -1.0, 12.25, 0.5, 7.0, 7.0, 2.0]
    quantiles = [[q, float(numpy.quantile(values, q))] for q in [0, 0.05, 0.25, 0.5, 0.9, 0.95, 0.99, 1]]
    normal = [[p, float(scipy.stats.norm.ppf(p))] for p in [1e-12, 0.001, 0.025, 0.3, 0.5, 0.75, 0.95, 0.975, 0.9995]]
    return {"wilson": wilson, "mcnemar": tests, "smallest_drop": drops, "values": values, "quantiles": quantiles,
            "normal": normal}


def labels():
    draw = random.Random(5)
    names = ["add", "clear", "remove", "show"]
    expected = [draw.choices(names, [5, 1, 4, 2])[0] for _ in range(120)]
    got = [e if draw.random() < 0.7 else draw.choice(names + ["(not JSON)"]) for e in expected]
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        expected, got, labels=names, zero_division=0)
    matrix = sklearn.metrics.confusion_matrix(expected, got, labels=names + ["(not JSON)"])[:4]
    macro = sklearn.metrics.f1_score(expected, got, labels=names, average="macro", zero_division=0)
    return {"expected": expected, "got": got, "names": names, "precision": precision.tolist(),
            "recall": recall.tolist(), "f1": f1.tolist(), "support": support.tolist(), "confusion": matrix.tolist(),
            "macro_f1": float(macro), "accuracy": float(sklearn.metrics.accuracy_score(expected, got))}


HERE.mkdir(exist_ok=True)
for name, value in [("statistics", statistics()), ("labels", labels())]:
    (HERE / f"{name}.json").write_text(json.dumps(value, indent=None) + "\n", encoding="utf-8")
