"""Writes golden/adamw.json: steps of torch.optim.AdamW that adamw_test.cpp must repeat.

Run: python tests/kernels/make_golden.py   (made with torch 2.11.0 on CPU, x86-64)
"""
import json
import pathlib

import torch

torch.manual_seed(7)
N, STEPS = 21, 4
OPTIONS = dict(lr=2e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1)
param = torch.nn.Parameter(torch.randn(N))
optimizer = torch.optim.AdamW([param], foreach=False, fused=False, **OPTIONS)
start = param.detach().clone()
gradients, values = [], []
for _ in range(STEPS):
    param.grad = torch.randn(N) * 10.0 ** torch.randint(-4, 2, (N,))
    gradients.append(param.grad.tolist())
    optimizer.step()
    values.append(param.detach().tolist())
state = optimizer.state[param]
out = {
    "torch": torch.__version__,
    "lr": OPTIONS["lr"], "beta1": OPTIONS["betas"][0], "beta2": OPTIONS["betas"][1],
    "eps": OPTIONS["eps"], "weight_decay": OPTIONS["weight_decay"],
    "start": start.tolist(), "gradients": gradients, "values": values,
    "m": state["exp_avg"].tolist(), "v": state["exp_avg_sq"].tolist(),
}
path = pathlib.Path(__file__).parent / "golden" / "adamw.json"
path.write_text(json.dumps(out) + "\n")
