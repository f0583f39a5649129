#!/usr/bin/env python3
"""Sums up what tools/test ran.

    summary.py [RESULT.xml...] [--checks FILE] failed and skipped tests with reasons; last line "N passed, N failed, N skipped";
                                               exit code 1 if any failed or none passed
    summary.py --brief RESULT.xml              one line, and the failed ones with the end of their output
    summary.py --at-least N RESULT.xml         exit code 1 if there are fewer than N tests

RESULT.xml is ctest's --output-junit; beside it RESULT-cases/NAME.xml is what the GoogleTest program that ctest calls NAME wrote
about its cases. FILE has lines "passed|failed TAB name TAB note".
"""
import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

TAIL_LINES = 15
LINE_LENGTH = 600  # a failed comparison of files shows both, whole


def reason_of(output):
    """Why a test skipped: GoogleTest's text after "Skipped", else the last line that a script printed."""
    match = re.search(r"Skipped\n(.*?)(?:\n\s*\n|\n\[|\Z)", output or "", re.S)
    if match and match.group(1).strip():
        return " ".join(match.group(1).split())
    lines = [line for line in (output or "").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"


def failure_of(output):
    """The first failed expectation of GoogleTest, else the end of the output; a crash is called one."""
    match = re.search(r"^(\S+:\d+: Failure\n(?:.+\n){0,3})", output, re.M)
    lines = [line for line in output.splitlines() if line.strip()]
    if "[ RUN      ]" in output and "[  FAILED  ]" not in output or lines and lines[-1].startswith("[----------]"):
        return "crashed, was killed or ran out of time after: " + lines[-1]
    return " ".join((match.group(1) if match else "\n".join(output.splitlines()[-2:])).split())


def cases_of(path, tree):
    """As read(), for the cases that one GoogleTest program ran; those of its other parts are not listed."""
    rows = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{tree}: {case.get('classname')}.{case.get('name')}"
        failures, skipped = case.findall("failure"), case.find("skipped")
        if case.get("status") == "notrun":
            continue
        if failures:
            texts = [[line[:LINE_LENGTH] for line in (f.text or f.get("message") or "").splitlines()[:TAIL_LINES]] for f in failures]
            rows.append(("failed", name, "\n".join(sum(texts, []) + [" ".join(" ".join(texts[0]).split())[:LINE_LENGTH]])))
        elif skipped is not None or case.get("result") == "skipped":
            message = (skipped.get("message") if skipped is not None else "") or ""
            rows.append(("skipped", name, " ".join(message.split("\n", 1)[-1].split()) or "no reason given"))
        else:
            rows.append(("passed", name, ""))
    return rows


def read(path):
    """[(state, tree: name, note)], state one of passed, failed, skipped."""
    tree = path.rsplit("/", 1)[-1].removesuffix(".xml")
    rows = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        name = f"{tree}: {case.get('name')}"
        skipped = case.find("skipped")
        cases = Path(path.removesuffix(".xml") + "-cases") / f"{case.get('name')}.xml"
        if case.get("status") in ("run", "fail") and cases.is_file():
            found = cases_of(cases, tree)
            rows += found
            if case.find("failure") is None and case.get("status") == "run" or count(found, "failed"):
                continue  # else the program failed after its cases: a leak, say
        if case.find("failure") is not None or case.get("status") == "fail":
            rows.append(("failed", name, "\n".join(output.splitlines()[-TAIL_LINES:] + [failure_of(output)])))
        elif skipped is not None and (skipped.get("message") or "").startswith("SKIP_"):
            rows.append(("skipped", name, reason_of(output)))
        elif case.get("status") == "run":
            rows.append(("passed", name, ""))
        else:  # not run at all (program missing, disabled, ...): not a skip that anyone asked for
            rows.append(("failed", name, f"not run: {skipped.get('message') if skipped is not None else case.get('status')}"))
    return rows


def count(rows, state):
    return sum(row[0] == state for row in rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results", nargs="*")
    parser.add_argument("--checks")
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--at-least", type=int)
    args = parser.parse_args()
    rows = []
    for path in args.results:
        try:
            rows += read(path)
        except (OSError, ElementTree.ParseError) as error:
            rows.append(("failed", path, str(error)))
    if args.checks:
        with open(args.checks, encoding="utf-8") as lines:
            for line in lines:
                state, name, *note = line.rstrip("\n").split("\t")
                rows.append((state, name, " ".join(note)))

    line = f"{count(rows, 'passed')} passed, {count(rows, 'failed')} failed, {count(rows, 'skipped')} skipped"
    if args.at_least is not None:
        # Skipped ones count: which of them a machine skips (instructions, files that it lacks) is in the list of reasons.
        print(f"{len(rows)} tests ({line}), at least {args.at_least} expected")
        return 0 if len(rows) >= args.at_least else 1
    if args.brief:
        print(f"   {line}")
        for state, name, note in rows:
            if state == "failed":
                print(f"   FAILED: {name}\n" + "\n".join(f"   | {text}" for text in note.splitlines()))
        return 0
    for state in ("failed", "skipped"):
        if count(rows, state):
            print(f"\n{state}:")
        for row in rows:
            if row[0] == state:
                note = row[2].splitlines()[-1] if row[2] else ""
                print(f"   {row[1]}" + (f": {note}" if note else ""))
    print()
    print(line)
    return 1 if count(rows, "failed") or not count(rows, "passed") else 0


if __name__ == "__main__":
    sys.exit(main())
