#!/usr/bin/env python3
"""Line coverage of the reader behind a fuzz target, from replaying its corpus.

    coverage.py --targets NAME...   exit code 1 unless each target names its reader's sources in tools/ci/readers.txt, and back
    coverage.py --tree build/fuzz-coverage --target NAME --minimum 80 --corpus DIRECTORY...

One line a source "  91.2 %  src/formats/gguf.cpp", then the whole; exit code 1 if the whole is below the minimum.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def readers():
    """{target: [source, ...]} from lines "target: source source"."""
    out = {}
    for line in (ROOT / "tools/ci/readers.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            target, sources = line.split(":")
            out[target.strip()] = sources.split()
    return out


def check_targets(targets):
    known, findings = readers(), []
    findings += [f"fuzz target {t} has no line in tools/ci/readers.txt" for t in targets if t not in known]
    findings += [f"tools/ci/readers.txt names {t}, which was not built" for t in known if t not in targets]
    findings += [f"{t}: {s} does not exist" for t, sources in known.items() for s in sources if not (ROOT / s).is_file()]
    print("\n".join(findings) or f"{len(known)} targets")
    return 1 if findings else 0


def measure(tree, target, corpus, minimum):
    program = ROOT / tree / "fuzzers" / target
    sources = readers()[target]
    with tempfile.TemporaryDirectory() as scratch:
        raw, merged = f"{scratch}/raw", f"{scratch}/merged"
        directories = [c for c in corpus if pathlib.Path(c).is_dir()]
        subprocess.run([program, "-runs=0", *directories], check=True, cwd=ROOT, stderr=subprocess.DEVNULL,
                       env=dict(os.environ, LLVM_PROFILE_FILE=raw))
        subprocess.run(["llvm-profdata-16", "merge", "-sparse", raw, "-o", merged], check=True)
        export = subprocess.run(["llvm-cov-16", "export", "-summary-only", f"-instr-profile={merged}", program,
                                 *(ROOT / s for s in sources)], check=True, capture_output=True, text=True)
    files = json.loads(export.stdout)["data"][0]["files"]
    covered = total = 0
    for entry in sorted(files, key=lambda e: e["filename"]):
        lines = entry["summary"]["lines"]
        covered, total = covered + lines["covered"], total + lines["count"]
        print(f"  {lines['percent']:5.1f} %  {pathlib.Path(entry['filename']).relative_to(ROOT)}")
    missing = len(sources) - len(files)
    share = 100.0 * covered / total if total else 0.0
    print(f"  {share:5.1f} %  {target}: {covered} of {total} lines, at least {minimum} % wanted")
    if missing:
        print(f"  {missing} sources of {target} are not in the program")
    return 0 if share >= minimum and not missing else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", nargs="+")
    parser.add_argument("--tree")
    parser.add_argument("--target")
    parser.add_argument("--minimum", type=float, default=80.0)
    parser.add_argument("--corpus", nargs="+", default=[])
    args = parser.parse_args()
    if args.targets:
        return check_targets(args.targets)
    return measure(args.tree, args.target, args.corpus, args.minimum)


if __name__ == "__main__":
    sys.exit(main())
