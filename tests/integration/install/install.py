#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `meson install` puts into a prefix works from there, wherever the prefix lies.

usage: install.py [--make FOLDER | --made FOLDER] BUILD-FOLDER PREFIX MESON

With --make it is only installed below a folder, with a program that is compiled against it; with
--made what was made so is copied to where it has to work.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

POLICY = """
tier far { kind = file  path = "@DIR@"  capacity = 64M }
rule all { side = host  min-size = 1M  place = { far } }
"""

PROGRAM = r"""
#include <berth.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv)
{
    struct berth_block_info info;
    void *p;

    (void)argv;
    berth_tag_push(BERTH_TAG_WEIGHT);
    p = malloc(3 << 20);
    berth_tag_pop();
    memset(p, 1, 3 << 20);
    printf("active %d\n", berth_active());
    if (berth_describe(p, &info, sizeof(info)) == 0)
        printf("%s %d %zu %s\n", info.tier, (int)info.tag, info.requested, info.rule);
    fflush(stdout);
    return argc > 1 && getchar() == EOF;
}
"""


def output(command, **more):
    """What a command prints; it must succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120,
                          **more).stdout.decode()


def prepare(root, build, prefix, meson):
    """Installs below `root` and compiles a program against what is there."""
    output([meson, "install", "-C", build, "--destdir", str(root), "--no-rebuild"])
    pkg_config = next(root.rglob("berth.pc")).parent
    flags = output(["pkg-config", "--cflags", "--libs", "berth"],
                   env={**os.environ, "PKG_CONFIG_PATH": str(pkg_config),
                        "PKG_CONFIG_SYSROOT_DIR": str(root),
                        "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1", "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1"})
    (root / "program.c").write_text(PROGRAM)
    subprocess.run("cc -g -o program program.c " + flags, shell=True, cwd=root, check=True)


def sites(berth, program):
    """What `berth sites` prints of the program while it has its block, and says beside it."""
    command = [berth, "run", "-o", "sites=always", "-o", "host=on", "-o", "control=always", "--",
               program, "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        running.stdout.readline()
        # It may be there before the thread that answers.
        while running.poll() is None and f'"pid": {running.pid}' not in output([berth, "ps", "--json"]):
            pass
        told = subprocess.run([berth, "sites", str(running.pid)], check=True, capture_output=True,
                              timeout=120)
        running.communicate(b"x", timeout=120)
    assert b"program!main" in told.stdout, told
    return told.stdout.decode(), told.stderr.decode()


def check_lines(berth, program, library):
    """Source lines are read by a library that is loaded for them: the tool does without."""
    text, errors = sites(berth, program)
    assert "(program.c:" in text and errors == "", (text, errors)
    library.write_bytes(b"no library")
    text, errors = sites(berth, program)
    assert "program.c" not in text and errors.count("\n") == 1, (text, errors)
    assert errors.startswith("berth: source lines are not shown: "), errors
    library.unlink()
    text, errors = sites(berth, program)
    assert "program.c" not in text and errors == "", (text, errors)


def main(step, folder, build, prefix, meson):
    """Installs into an empty folder and uses only what is there."""
    if step == "--make":
        prepare(pathlib.Path(folder), build, prefix, meson)
        return 0
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        if step == "--made":
            shutil.copytree(folder, root, symlinks=True, dirs_exist_ok=True)
        else:
            prepare(root, build, prefix, meson)
        (root / "test.policy").write_text(POLICY.replace("@DIR@", str(root)))
        installed = root / prefix.lstrip("/")
        berth = installed / "bin" / "berth"
        for page in ("man1/berth.1", "man5/berth-policy.5", "man7/libberth.7",
                     "man7/berth-protocol.7", "man1/berth-infer.1", "man3/berth_tag_push.3"):
            assert (installed / "share" / "man" / page).exists(), page
        assert "0.1.0" in output([berth, "--version"])
        assert output([root / "program"]) == "active 0\n"
        told = output([berth, "run", "--policy", root / "test.policy", "--", root / "program"])
        assert told == f"active 1\nfar 1 {3 << 20} all\n", told
        output([berth, "doctor"])
        reader = next(installed.rglob("libberth-lines.so"), None)
        assert bool(reader) == os.path.exists(f"{build}/tools/berth/libberth-lines.so"), reader
        # A guest's programs are without debug information.
        if reader and step != "--made":
            check_lines(berth, root / "program", reader)
        # A preload list is separated by spaces and colons: such a place is refused in words.
        spaced = root / "with a space"
        spaced.mkdir()
        installed.rename(spaced / "prefix")
        told = subprocess.run([spaced / "prefix" / "bin" / "berth", "run", "--", "true"],
                              stderr=subprocess.PIPE, check=False)
        assert told.returncode != 0 and b"space" in told.stderr, told
    print("the installed prefix works from where it lies")
    return 0


if __name__ == "__main__":
    STEP, FOLDER = sys.argv[1:3] if sys.argv[1] in ("--make", "--made") else ("", "")
    sys.exit(main(STEP, FOLDER, *sys.argv[-3:]))
