#!/usr/bin/env python3
"""Writes gptq_solver.txt: GPTQ of a small matrix by another road than ours, in float64 and numpy alone.

Made with numpy 2.4.6:   python3 tests/calib/golden/make_golden.py
Where we factorize once, this keeps the whole inverse of the Hessian and removes one column from it after each step (optimal
brain surgery, the form that Frantar et al. 2022 start from), one row at a time. Each line is `key hex`, little-endian.
"""
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
N, K, TOKENS, GROUP, DAMP = 6, 64, 160, 16, 0.05
MARGIN = 3e-5  # f32 against float64


def column_order(diagonal, kind):
    if kind == "stored":
        return np.arange(K)
    if kind == "act":
        return np.argsort(-diagonal, kind="stable")
    groups = diagonal.reshape(-1, GROUP)
    inside = np.argsort(-groups, axis=1, kind="stable") + GROUP * np.arange(len(groups))[:, None]
    return inside[np.argsort(-groups.max(axis=1), kind="stable")].reshape(-1)


def column_costs(inverse):
    """What the square of an error costs in each column once those before it are fixed."""
    inverse, costs = inverse.copy(), np.zeros(K)
    for i in range(K):
        costs[i] = 1 / inverse[i, i]
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    return costs


def best_scale(w, cost):
    """The scale whose weighted least-squares fit leaves the least error, and how near it came to another choice."""
    extreme = w[np.abs(w).argmax()]
    fits = []
    for sign in (-1, 1):
        for share in np.linspace(0.625, 1.125, 32):
            quotients = w * (sign * share * 8 / extreme)
            codes = np.clip(np.rint(quotients), -8, 7)
            scale = (cost * codes * w).sum() / (cost * codes * codes).sum()
            inside = (quotients > -8) & (quotients < 7)
            fits.append((scale * (cost * codes * w).sum(), scale, codes, np.abs(quotients[inside] % 1 - 0.5).min()))
    gain, scale, codes, margin = max(fits, key=lambda fit: round(fit[0], 15))
    # Codes that are all turned round fit as well, with the scale turned round: the first sign is taken.
    others = [fit[0] for fit in fits if (fit[2] != codes).any() and (fit[2] != -codes).any()]
    return scale, min(margin, 10 * (1 - max(others) / gain))


def quantize_row(w, inverse, cost):
    """Codes, scales and how near a choice came to another."""
    w, inverse = w.copy(), inverse.copy()
    codes, scales, margin = np.zeros(K, np.uint8), np.zeros(K // GROUP, np.float16), 1.0
    for i in range(K):
        if i % GROUP == 0:
            exact, of_choice = best_scale(w[i:i + GROUP], cost[i:i + GROUP])
            scales[i // GROUP] = np.float16(exact)
            ulp = float(abs(np.spacing(np.float16(exact))))
            margin = min(margin, of_choice, abs((exact / ulp) % 1 - 0.5) / 10)  # f16 is finer
        scale = float(scales[i // GROUP])
        steps = w[i] / scale
        if -8 < steps < 7:
            margin = min(margin, abs(steps % 1 - 0.5))
        codes[i] = np.clip(np.rint(steps) + 8, 0, 15)
        error = (w[i] - scale * (int(codes[i]) - 8)) / inverse[i, i]
        w[i + 1:] -= error * inverse[i, i + 1:]
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    return codes, scales, margin


def main():
    rng = np.random.default_rng(22101735)
    mixing = rng.normal(size=(K, K)) * 0.4 + np.eye(K)
    x = ((rng.normal(size=(TOKENS, K)) * np.exp(rng.normal(size=K))) @ mixing).astype(np.float32)
    weight = (rng.normal(size=(N, K)) * 0.05).astype(np.float32)
    x[:, 11] = 0  # a dead input
    hessian = 2 / TOKENS * x.astype(np.float64).T @ x.astype(np.float64)
    filled = hessian.copy()
    live = np.arange(K) != 11
    filled[11, 11] = np.diag(hessian)[live].mean()
    damped = filled + DAMP * np.diag(filled).mean() * np.eye(K)
    fields = {"weight": weight, "inputs": x, "energies": np.einsum("ni,ij,nj->n", weight.astype(np.float64), hessian, weight)}
    for kind in ("stored", "act", "group"):
        order = column_order(np.diag(filled), kind)
        inverse = np.linalg.inv(damped[np.ix_(order, order)])
        cost = column_costs(inverse)
        codes, scales, g_idx = np.zeros((N, K), np.uint8), np.zeros((N, K // GROUP), np.float16), np.zeros(K, np.int32)
        for row in range(N):
            w = weight[row].astype(np.float64)
            w[11] = 0
            c, s, margin = quantize_row(w[order], inverse, cost)
            assert margin > MARGIN, f"{kind}, row {row}: too near a tie ({margin}); take another seed"
            codes[row, order] = c
            place = order[::GROUP] // GROUP if kind == "group" else np.arange(K // GROUP)
            scales[row, place] = s
        g_idx[order] = (order // GROUP if kind == "group" else np.arange(K) // GROUP)
        if kind == "stored":
            g_idx = np.arange(K, dtype=np.int32) // GROUP
        difference = scales.astype(np.float64)[:, g_idx] * (codes.astype(int) - 8) - weight
        fields[f"{kind}.codes"], fields[f"{kind}.scales"], fields[f"{kind}.g_idx"] = codes, scales, g_idx
        fields[f"{kind}.errors"] = np.einsum("ni,ij,nj->n", difference, hessian, difference)
    head = "# GPTQ by numpy in float64; see make_golden.py.\n"
    lines = "".join(f"{key} {np.ascontiguousarray(value).tobytes().hex()}\n" for key, value in fields.items())
    (HERE / "gptq_solver.txt").write_text(head + lines)


if __name__ == "__main__":
    main()
