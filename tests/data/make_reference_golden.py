"""Writes golden/reference_scores.json: the classifier of the plain baseline as scikit-learn computes it.

Made with Python 3.11, scikit-learn 1.9.1, scipy 1.17.1. Run: python tests/data/make_reference_golden.py
Texts: those of data/snips/train.jsonl that are ASCII letters, digits and spaces alone (there the two tokenizers agree);
every fourth is held out.
"""
import json
import re
from pathlib import Path

import numpy
import scipy.sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

C = 3  # BagOfWordsOptions::c
ROOT = Path(__file__).parents[2]
rows = [json.loads(line) for line in (ROOT / "data/snips/train.jsonl").open(encoding="utf-8")]
rows = [row for row in rows if re.fullmatch("[A-Za-z0-9 ]+", row["text"])]
train = [row for i, row in enumerate(rows) if i % 4]
held_out = rows[::4]
names = sorted({row["intent"] for row in rows})

common = {"sublinear_tf": True, "smooth_idf": True, "min_df": 2, "lowercase": True}
words = TfidfVectorizer(ngram_range=(1, 2), token_pattern="[a-z0-9]+", **common)
characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **common)


def features(texts, method):
    parts = [getattr(vectorizer, method)(texts) for vectorizer in (words, characters)]
    return scipy.sparse.csr_matrix(scipy.sparse.hstack(parts + [numpy.ones((len(texts), 1))]))


x = features([row["text"] for row in train], "fit_transform")
y = numpy.array([names.index(row["intent"]) for row in train])
model = LogisticRegression(C=C, fit_intercept=False, tol=1e-8, max_iter=5000).fit(x, y)
loss = -model.predict_log_proba(x)[numpy.arange(len(y)), y].mean()
objective = loss + (model.coef_**2).sum() / (2 * C * len(y))
held = features([row["text"] for row in held_out], "transform")
probabilities = model.predict_proba(held)
right = model.predict(held) == [names.index(row["intent"]) for row in held_out]
golden = {"num_train": len(train), "num_held_out": len(held_out), "names": names, "num_features": x.shape[1],
          "objective": objective, "right": int(right.sum()),
          "probabilities": numpy.round(probabilities[:12], 6).tolist()}
(ROOT / "tests/data/golden").mkdir(exist_ok=True)
(ROOT / "tests/data/golden/reference_scores.json").write_text(json.dumps(golden) + "\n", encoding="utf-8")
print({key: golden[key] for key in golden if key != "probabilities"})
