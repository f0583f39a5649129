#!/usr/bin/env python3
"""Installs a build tree, moves it, and starts slmi there with an empty environment: install_test.py CMAKE BUILD_TREE."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

cmake, build = sys.argv[1], pathlib.Path(sys.argv[2])
# Left to the machine: glibc, the compiler's libraries and the GPU driver.
SYSTEM = ("linux-vdso", "ld-linux", "libc.", "libm.", "libdl.", "librt.", "libpthread.", "libutil.", "libresolv.", "libstdc++.",
          "libgcc_s.", "libcuda.", "libnvidia")

with tempfile.TemporaryDirectory(dir=build) as scratch:  # beside the build: some GiB with CUDA
    subprocess.run([cmake, "--install", build, "--prefix", f"{scratch}/first"], check=True, stdout=subprocess.DEVNULL)
    tree = pathlib.Path(scratch) / "moved"
    shutil.move(f"{scratch}/first", tree)
    trace = subprocess.run([tree / "bin/slmi"], env={"LD_TRACE_LOADED_OBJECTS": "1"}, check=True, capture_output=True, text=True)
    foreign = [line.strip() for line in trace.stdout.splitlines()
               if str(tree.resolve()) not in str(pathlib.Path(line.split("=>")[-1].split("(")[0].strip()).resolve())
               and not line.strip().rsplit("/", 1)[-1].startswith(SYSTEM) and not line.strip().startswith(SYSTEM)]
    assert not foreign, f"libraries from outside the tree: {foreign}"
    assert "libtorch_cpu.so" in trace.stdout, trace.stdout
    version = subprocess.run([tree / "bin/slmi", "--version"], env={}, check=True, capture_output=True, text=True).stdout
    expected = subprocess.run([build / "slmi", "--version"], check=True, capture_output=True, text=True).stdout
    assert version == expected and "libtorch" in version, version
    for name in ("configs/quickstart.json", "data/snips/test.jsonl", "data/shop/train.jsonl", "LICENSE"):
        assert (tree / "share/slmi" / name).is_file(), name
    print(version)
