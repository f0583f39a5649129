#!/usr/bin/env python3
"""Checks that the arrows between modules point only to the left, in includes and in link lists.

    includes_test.py ROOT              checks the tree; one line a finding, exit code 1 if there is any
    includes_test.py ROOT --self-test  plants one violation of each kind in a copy and expects each to be found

Also that nothing calls std::filesystem::remove_all. Order and torch line are those of the CMake files (src/CMakeLists.txt); `|` there means strictly left of, and modules of one
group may not include each other. Standard library only.
"""
import argparse
import pathlib
import re
import shutil
import sys
import tempfile

# Modules of one group are neighbours: they know nothing of each other.
ORDER = [["base"], ["config"], ["report"], ["kernels"], ["quant"], ["formats"], ["text"], ["metrics"], ["data"], ["ops"],
         ["comm", "ceilings"], ["model"], ["decode"], ["eval"], ["train", "calib"], ["study"], ["cli"]]
RANK = {module: i for i, group in enumerate(ORDER) for module in group}
LAST_WITHOUT_TORCH = RANK["data"]
# "MPI" and "NCCL" arrive with comm; CUDA sources are kernels, which see raw pointers only.
# libtorch exports an old libstdc++'s, which crashes: slmi::remove_tree (base/atomic_file.h).
REMOVE_ALL = re.compile(r'\bremove_all\s*\(')
TORCH_INCLUDE = re.compile(r'^(torch|ATen|c10|caffe2)/')
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)
SOURCES = {".h", ".cpp", ".cu", ".cuh", ".inc"}


def may_use(user, used):
    return used == user or RANK[used] < RANK[user]


def module_of(root, path):
    """Module of a source file, or None for a file that is in none (the top of a tree, scripts)."""
    parts = path.relative_to(root).parts
    if parts[0] == "include":
        return parts[2] if len(parts) > 3 else None
    return parts[1] if len(parts) > 2 else None


def without_comments(text):
    """Comments replaced by as many line feeds; strings stay (an include is written as one)."""
    return re.sub(r'//[^\n]*|/\*.*?\*/', lambda m: "\n" * m.group().count("\n"), text, flags=re.S)


def check_file(root, path, findings):
    module = module_of(root, path)
    where = path.relative_to(root)
    if module is None or module not in RANK:
        findings.append(f"{where}: lies in no module of the order ({module})")
        return 0
    text = without_comments(path.read_text(encoding="utf-8"))
    count = 0
    for match in REMOVE_ALL.finditer(text):
        findings.append(f"{where}:{text.count(chr(10), 0, match.start()) + 1}: calls remove_all; take slmi::remove_tree")
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start(1)) + 1
        name = match.group(1)
        count += 1
        if TORCH_INCLUDE.match(name) and (RANK[module] <= LAST_WITHOUT_TORCH or path.suffix in (".cu", ".cuh")):
            reason = "this is a CUDA source" if path.suffix in (".cu", ".cuh") else f"module {module} is above the libtorch line"
            findings.append(f"{where}:{line}: includes <{name}>, but {reason}")
        parts = name.split("/")
        if parts[0] == "slmi":
            used = parts[1] if len(parts) > 2 else None
            if used not in RANK:
                findings.append(f"{where}:{line}: includes {name}, which is in no module of the order")
            elif not may_use(module, used):
                findings.append(f"{where}:{line}: module {module} includes {name}; {used} is not left of it")
            elif not (root / "include" / name).is_file():
                findings.append(f"{where}:{line}: includes {name}, which does not exist")
        elif "/" in name and ".." in parts:
            findings.append(f"{where}:{line}: includes {name}; a private header of another directory")
    return count


def check_links(root, findings):
    """DEPS of slmi_module and slmi_x in target_link_libraries; LINK slmi_torch above the line."""
    count = 0
    for path in sorted((root / "src").glob("*/CMakeLists.txt")):
        module = path.parent.name
        where = path.relative_to(root)
        text = re.sub(r"#[^\n]*", "", path.read_text(encoding="utf-8"))
        used = set()
        for body in re.findall(r"slmi_module\(([^)]*)\)", text):
            words = body.split()
            if words[0] != module:
                findings.append(f"{where}: defines module {words[0]}")
            keyword = ""
            for word in words[1:]:
                if word in ("SOURCES", "DEPS", "LINK"):
                    keyword = word
                elif keyword == "DEPS":
                    used.add(word)
        for body in re.findall(r"target_link_libraries\(([^)]*)\)", text):
            used.update(word[5:] for word in body.split()[1:] if word.startswith("slmi_") and word[5:] in RANK)
        for other in sorted(used):
            count += 1
            if other not in RANK or not may_use(module, other) or other == module:
                findings.append(f"{where}: module {module} links {other}, which is not left of it")
        if "slmi_torch" in text and RANK.get(module, 0) <= LAST_WITHOUT_TORCH:
            findings.append(f"{where}: module {module} links libtorch, but is above the libtorch line")
    return count


def check_order(root, findings):
    """The order here is the one that CMake adds the modules in."""
    text = (root / "src" / "CMakeLists.txt").read_text(encoding="utf-8")
    calls = [body.split() for body in re.findall(r"^\s*slmi_add_modules\(([^)]*)\)", text, re.M)]
    flat = [module for group in ORDER for module in group]
    if sum(calls, []) != flat:
        findings.append(f"src/CMakeLists.txt: modules {sum(calls, [])}, expected {flat}")
    if not calls or calls[0][-1] != "data":
        findings.append("src/CMakeLists.txt: the libtorch line is not after data")
    for path in sorted((root / "src").iterdir()) + sorted((root / "include" / "slmi").iterdir()):
        if path.is_dir() and path.name not in RANK:
            findings.append(f"{path.relative_to(root)}: no module of the order")


def check(root):
    findings = []
    includes = 0
    for top in ("include/slmi", "src"):
        for path in sorted((root / top).rglob("*")):
            if path.is_file() and path.suffix in SOURCES:
                includes += check_file(root, path, findings)
    links = check_links(root, findings)
    check_order(root, findings)
    if includes < 100 or links < 10:  # the check itself must be alive
        findings.append(f"only {includes} includes and {links} links were found; wrong directory?")
    return findings, includes, links


def plant(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text(encoding="utf-8") if path.exists() else "") + text, encoding="utf-8")


VIOLATIONS = {  # what is planted -> what the finding must say
    "an include to the right": (("src/base/planted.cpp", '#include "slmi/text/tokenizer.h"\n'), "text is not left of it"),
    "an include between neighbours": (("src/train/planted.cpp", '#include "slmi/calib/x.h"\n'), "calib is not left of it"),
    "torch above the line": (("src/data/planted.cpp", "int x;\n#include <torch/torch.h>\n"), "planted.cpp:2: includes <torch/torch.h>"),
    "ATen in a public header": (("include/slmi/quant/planted.h", "#include <ATen/ATen.h>\n"), "above the libtorch line"),
    "torch in a CUDA source": (("src/ops/planted.cu", "#include <torch/extension.h>\n"), "this is a CUDA source"),
    "a spaced include": (("src/base/planted.cpp", '#  include  "slmi/data/row.h"\n'), "data is not left of it"),
    "a header that is not there": (("src/cli/planted.cpp", '#include "slmi/base/absent.h"\n'), "does not exist"),
    "a private header of another module": (("src/cli/planted.cpp", '#include "../base/x.h"\n'), "private header"),
    "a module that is not in the order": (("src/planted/x.cpp", "int x;\n"), "no module of the order"),
    "a link to the right": (("src/base/CMakeLists.txt", "target_link_libraries(slmi_base PUBLIC slmi_text)\n"), "links text"),
    "a DEPS to the right": (("src/formats/CMakeLists.txt", "slmi_module(formats SOURCES x.cpp DEPS base data)\n"), "links data"),
    "a call of remove_all": (("src/calib/planted.cpp", "void f() {\n  fs::remove_all(path);\n}\n"), "planted.cpp:2: calls remove_all"),
    "libtorch above the line": (("src/data/CMakeLists.txt", "slmi_module(data SOURCES x.cpp LINK slmi_torch)\n"), "links libtorch"),
}


def self_test(root):
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / "tree"
        for name, ((path, text), want) in VIOLATIONS.items():
            shutil.rmtree(copy, ignore_errors=True)
            for top in ("include", "src"):
                shutil.copytree(root / top, copy / top)
            before = set(check(copy)[0])
            plant(copy, path, text)
            new = [finding for finding in check(copy)[0] if finding not in before]
            found = any(want in finding for finding in new)
            print(f"{'found' if found else 'MISSED'}: {name}: {new}")
            failures += not found
        shutil.rmtree(copy, ignore_errors=True)
        for top in ("include", "src"):
            shutil.copytree(root / top, copy / top)
        before = check(copy)[0]
        plant(copy, "src/base/planted.cpp", '// #include "slmi/text/tokenizer.h"\n/*\n#include <torch/torch.h>\n*/\n')
        clean = check(copy)[0] == before
        print(f"{'quiet' if clean else 'FALSE ALARM'}: includes inside comments")
        failures += not clean
    return failures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()
    if args.self_test:
        failures = self_test(args.root)
        print(f"{len(VIOLATIONS) + 1} cases, {failures} failures")
        return 1 if failures else 0
    findings, includes, links = check(args.root)
    for finding in findings:
        print(finding)
    print(f"{includes} includes and {links} links read, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
