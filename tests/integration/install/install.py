#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `meson install` puts into a prefix works from there, wherever the prefix lies.

usage: install.py BUILD-FOLDER PREFIX MESON
"""

import os
import pathlib
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
int main(void)
{
    struct berth_block_info info;
    void *p;

    berth_tag_push(BERTH_TAG_WEIGHT);
    p = malloc(3 << 20);
    berth_tag_pop();
    memset(p, 1, 3 << 20);
    printf("active %d\n", berth_active());
    if (berth_describe(p, &info, sizeof(info)) == 0)
        printf("%s %d %zu %s\n", info.tier, (int)info.tag, info.requested, info.rule);
    return 0;
}
"""


def output(command, **more):
    """What a command prints; it must succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120,
                          **more).stdout.decode()


def main(build, prefix, meson):
    """Installs into an empty folder and uses only what is there."""
    with tempfile.TemporaryDirectory(prefix="berth install ") as name:
        root = pathlib.Path(name)
        output([meson, "install", "-C", build, "--destdir", name, "--no-rebuild"])
        installed = root / prefix.lstrip("/")
        berth = installed / "bin" / "berth"
        plain = root / "plain"
        plain.symlink_to(installed)  # LD_PRELOAD cannot name a path with a space
        for page in ("man1/berth.1", "man5/berth-policy.5", "man7/libberth.7",
                     "man7/berth-protocol.7", "man1/berth-infer.1", "man3/berth_tag_push.3"):
            assert (installed / "share" / "man" / page).exists(), page
        assert "0.1.0" in output([berth, "--version"])
        pkg_config = next(installed.rglob("berth.pc")).parent
        flags = output(["pkg-config", "--define-prefix", "--cflags", "--libs", "berth"],
                       env={**os.environ, "PKG_CONFIG_PATH": str(pkg_config)})
        (root / "program.c").write_text(PROGRAM)
        subprocess.run("cc -o program program.c " + flags, shell=True, cwd=root, check=True)
        program = str(root / "program")
        assert output([program]) == "active 0\n"
        far = tempfile.mkdtemp(dir=root)
        (root / "test.policy").write_text(POLICY.replace("@DIR@", far))
        with tempfile.TemporaryDirectory() as short:
            link = pathlib.Path(short) / "prefix"
            link.symlink_to(installed)
            told = subprocess.run([installed / "bin" / "berth", "run", "--policy",
                                   root / "test.policy", "--", program], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, check=False)
            # A preload list is separated by spaces: such a prefix is refused in words.
            assert told.returncode != 0 and b"space" in told.stderr, told
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        output([meson, "install", "-C", build, "--destdir", name, "--no-rebuild"])
        berth = root / prefix.lstrip("/") / "bin" / "berth"
        (root / "program.c").write_text(PROGRAM)
        pkg_config = next(root.rglob("berth.pc")).parent
        flags = output(["pkg-config", "--define-prefix", "--cflags", "--libs", "berth"],
                       env={**os.environ, "PKG_CONFIG_PATH": str(pkg_config)})
        subprocess.run("cc -o program program.c " + flags, shell=True, cwd=root, check=True)
        (root / "test.policy").write_text(POLICY.replace("@DIR@", name))
        told = output([berth, "run", "--policy", root / "test.policy", "--", root / "program"])
        assert told == f"active 1\nfar 1 {3 << 20} all\n", told
        output([berth, "doctor"])
    print("the installed prefix works from where it lies")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
