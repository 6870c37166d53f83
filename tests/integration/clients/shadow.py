# SPDX-License-Identifier: Apache-2.0
"""Goal: a program may have functions and variables of its own by the names of the C library's that
Berth calls.

Method: programs are made that have one of every name that the preload libraries import, as a
function that ends the program, and as a variable. They run natively first. Under Berth they use
tiers, full call sites, the classifier, a persistent block and the control thread, all of it asked
for its state from outside.
usage: shadow.py [--make FOLDER | --made FOLDER] BERTH MAIN.C LIBRARY... -- COMPILER...

A machine without compilers runs what another one has made: with --make the programs are only made,
in a folder each, but those of the cases that BERTH_TEST_LEFT names, with colons between; with --made
they are there.
"""
import glob
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

STEP = FOLDER = ""
if sys.argv[1] in ("--make", "--made"):
    STEP, FOLDER = sys.argv[1:3]
    del sys.argv[1:3]
split = sys.argv.index("--")
BERTH, MAIN, *LIBRARIES = sys.argv[1:split]
COMPILER = sys.argv[split + 1:]
DEADLINE_S = 120
LEFT = os.environ.get("BERTH_TEST_LEFT", "").split(":") if STEP == "--make" else []
FEWER_ROUNDS = ["fewer"] if os.environ.get("CHECK_EMULATED") else []
# Where the unnamed tier's file lies.
NEAR = os.environ.get("BERTH_TEST_NEAR", "/dev/shm")

# The C library calls these by name itself: a program that has some serves all.
HEAP = {"malloc", "calloc", "realloc", "free", "memalign", "aligned_alloc", "posix_memalign"}
# How a program without any name of the C library's comes by threads.
LOOKUP = {"dlsym"}

POLICY = """
options {{ record-threshold = 4K  site-depth = 32  classifier = on }}
tier near {{ kind = file  path = "{0}"  decay = 1s }}
tier kept {{ kind = file  path = "{1}"  name = kept }}
rule large {{ side = host  min-size = 96K  place = {{ near, dram }} }}
rule by_path {{ side = host  min-size = 8K  site = "**>shadow*"  place = {{ near, dram }} }}
"""
# Every block, so that each fork copies them.
EVERYTHING = """
tier kept {{ kind = file  path = "{}" }}
rule all {{ side = host  place = {{ kept, dram }} }}
"""


def imports():
    """The names that a program may have: the others are the C library's by the C standard."""
    names = set()
    for library in LIBRARIES:
        listed = subprocess.run(["nm", "-D", "--undefined-only", library], check=True,
                                stdout=subprocess.PIPE, text=True).stdout
        names |= {re.split("@", line.split()[1])[0] for line in listed.splitlines()}
    return sorted(name for name in names if name[0] != "_" and not name.startswith("berth_"))


def header(names, kind):
    if kind == "threads' variables":
        return "".join(f"__thread int {name} = 1;\n" for name in names)
    if kind == "variables":
        return "".join(f'char {name}[64] = "{"x" * 63}";\n' for name in names)
    return "void shadow_called(const char *name);\n" + "".join(
        f'void {name}(void) {{ shadow_called("{name}"); }}\n' for name in names)


# As libfaketime's: each allocates while it is called, and the clock tells another time.
WRAPPERS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static void *real_of(const char *name)
{
    void *volatile block = malloc(80);

    free(block);
    return dlsym(RTLD_NEXT, name);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*real)(clockid_t, struct timespec *) = real_of("clock_gettime");
    int r = real(clock, now);

    now->tv_sec /= 2;
    return r;
}

int pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes)
{
    int (*real)(pthread_cond_t *, const pthread_condattr_t *) = real_of("pthread_cond_init");
    return real(cond, attributes);
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    int (*real)(pthread_mutex_t *) = real_of("pthread_mutex_lock");
    return real(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    int (*real)(pthread_mutex_t *) = real_of("pthread_mutex_unlock");
    return real(mutex);
}
"""


# As fakeroot's, which ask a daemon, under a semaphore that a thread keeps that ends meanwhile.
ABOUT_FILES = ("fstat", "stat", "lstat", "fstatat", "statx", "chmod", "fchmod", "fchmodat", "chown", "fchown",
               "mkdir", "mkdirat", "unlink", "unlinkat", "rename", "renameat", "remove", "rmdir", "getuid",
               "geteuid", "getgid", "getegid")
ASKER = """
#define _GNU_SOURCE
#include <dlfcn.h>

int dprintf(int fd, const char *format, ...);
char *strstr(const char *text, const char *part);

/* Past what a function has for arguments: six words are passed on, whatever they are. */
static long asked(const char *name, const void *caller, long a, long b, long c, long d, long e)
{
    long (*real)(long, long, long, long, long) = dlsym(RTLD_NEXT, name);
    Dl_info info;

    if (dladdr(caller, &info) && strstr(info.dli_fname, "/libberth"))
        dprintf(2, "%s asks for %s\\n", info.dli_fname, name);
    return real(a, b, c, d, e);
}
"""
ASKED = """
long {0}(long a, long b, long c, long d, long e)
{{
    return asked("{0}", __builtin_return_address(0), a, b, c, d, e);
}}
"""
# Three processes at once that begin with Berth's threads still beginning in the shell.
FAKED = """
cd "$0"
touch made && chown 1234:55 made && stat -c %u:%g made
tar cf - made | tar tvf - | cut -d ' ' -f 1,2
rm made
"""


class Shadow(unittest.TestCase):
    def setUp(self):
        if self.id().rpartition(".")[2] in LEFT:
            self.skipTest("nobody runs it")
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="berth-shadow-"))
        self.addCleanup(shutil.rmtree, self.root, True)
        for name in ("runtime", "kept"):
            (self.root / name).mkdir(0o700)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("BERTH_") and k != "LD_PRELOAD"}
        self.env["XDG_RUNTIME_DIR"] = str(self.root / "runtime")

    def made(self):
        """The folder of what is made for this case."""
        folder = pathlib.Path(FOLDER) / self.id().rpartition(".")[2] if STEP else self.root
        folder.mkdir(exist_ok=True)
        return folder

    def make(self, names, kind, *more):
        program = self.made() / "shadow"
        if STEP == "--made":
            return str(program)
        (self.root / "shadow_names.h").write_text(header(names(), kind), encoding="utf-8")
        subprocess.run([*COMPILER, "-O1", "-w", "-fno-builtin", "-fno-stack-protector", *more,
                        f"-I{self.root}", "-o", str(program), MAIN, "-ldl"], check=True)
        return str(program)

    def run_natively(self, program):
        done = subprocess.run([program, *FEWER_ROUNDS], input="x", env=self.env, capture_output=True, text=True,
                              timeout=DEADLINE_S, check=False)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("ready\ndone\n", "", 0))

    def ask(self, process, *command):
        done = subprocess.run([BERTH, *command], env=self.env, capture_output=True, text=True,
                              timeout=DEADLINE_S, check=False)
        if done.returncode != 0:
            process.kill()
            self.fail(done.stderr + process.communicate()[1])
        return done.stdout

    def run_under_berth(self, program):
        policy = self.root / "policy"
        policy.write_text(POLICY.format(NEAR, self.root / "kept"), encoding="utf-8")
        with subprocess.Popen([BERTH, "run", "--policy", str(policy), "--", program,
                               *FEWER_ROUNDS],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True,
                              env={**self.env, "BERTH_CONTROL": "always"}) as process:
            try:
                said = process.stdout.readline()
                if said == "ready\n":
                    self.talk(process, str(policy))
                out, errors = process.communicate("x", timeout=DEADLINE_S)
            finally:
                process.kill()
        self.assertEqual((said + out, errors, process.returncode), ("ready\ndone\n", "", 0))

    def wait_for_socket(self, process):
        """A thread of its own opens it, which may have to wait for a processor."""
        end = time.monotonic() + DEADLINE_S
        while subprocess.run([BERTH, "stat", str(process.pid)], env=self.env, check=False,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            if process.poll() is not None or time.monotonic() > end:
                break  # the next who asks says why
            time.sleep(0.01)

    def talk(self, process, policy):
        pid = str(process.pid)
        self.wait_for_socket(process)
        self.assertRegex(self.ask(process, "stat", pid), r"(?m)near .*")
        self.assertIn("shadow!", self.ask(process, "sites", pid))
        self.ask(process, "doctor", pid)
        self.ask(process, "policy", "apply", pid, policy)
        self.ask(process, "trim", pid)
        process.stdin.write("go on")
        process.stdin.flush()
        self.ask(process, "snapshot", pid, "-o", str(self.root / "snapshot"))

    def goes_well(self, names, kind, *more):
        program = self.make(names, kind, *more)
        self.runs_well(program)

    def runs_well(self, program):
        if STEP == "--make":
            return
        self.run_natively(program)
        self.run_under_berth(program)

    @staticmethod
    def names(but):
        return lambda: [name for name in imports() if name not in but]

    def test_functions_of_all_names_are_left_alone(self):
        self.goes_well(self.names(HEAP), "functions")

    def test_so_they_are_by_threads(self):
        self.goes_well(self.names(HEAP | LOOKUP), "functions", "-DHAS_DLSYM")

    def test_variables_of_all_names_are_left_alone(self):
        self.goes_well(self.names(HEAP), "variables", "-rdynamic")

    def test_variables_of_threads_are_left_alone(self):
        self.goes_well(self.names(HEAP), "threads' variables", "-rdynamic")

    def test_the_loaders_list_may_be_a_variable_of_the_program(self):
        self.goes_well(lambda: ["_r_debug"], "variables", "-rdynamic")

    def test_so_they_are_in_a_program_at_a_fixed_address(self):
        self.goes_well(self.names(HEAP | LOOKUP), "variables", "-rdynamic", "-no-pie",
                       "-DHAS_DLSYM")

    def test_preloaded_locks_and_clocks_that_allocate_are_the_programs_alone(self):
        self.preload("wrappers", WRAPPERS)
        self.runs_well(self.make(list, "functions"))

    def preload(self, name, source):
        """Makes a library, which the program and Berth have before them."""
        library = str(self.made() / f"{name}.so")
        if STEP != "--made":
            (self.root / f"{name}.c").write_text(source, encoding="utf-8")
            subprocess.run([*COMPILER, "-O1", "-w", "-fno-builtin", "-shared", "-fPIC", "-o", library,
                            str(self.root / f"{name}.c"), "-ldl"], check=True)
        self.env["LD_PRELOAD"] = library

    def test_what_is_preloaded_is_asked_nothing_about_files(self):
        self.preload("asker", ASKER + "".join(map(ASKED.format, ABOUT_FILES)))
        self.runs_well(self.make(list, "functions"))

    def test_fakeroot_may_be_preloaded(self):
        if STEP == "--make":
            return
        if not shutil.which("fakeroot"):
            self.skipTest("fakeroot is not installed")
        policy = self.root / "policy"
        policy.write_text(EVERYTHING.format(self.root / "kept"), encoding="utf-8")
        for _ in range(20):
            with subprocess.Popen([BERTH, "run", "--policy", str(policy), "--", "fakeroot", "sh", "-c",
                                   FAKED, str(self.root)], env=self.env, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
                try:
                    said, errors = process.communicate(timeout=DEADLINE_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise
            self.assertEqual((said, errors, process.returncode),
                             ("1234:55\n-rw-r--r-- 1234/55\n", "", 0))

    def test_libfaketime_may_be_preloaded(self):
        if STEP == "--make":
            return
        found = glob.glob("/usr/lib/*/faketime/libfaketime*.so.1")
        if not found:
            self.skipTest("libfaketime is not installed")
        policy = self.root / "policy"
        policy.write_text(POLICY.format(NEAR, self.root / "kept"), encoding="utf-8")
        for library in found:
            done = subprocess.run([BERTH, "run", "--policy", str(policy), "--", "date", "+%Y"],
                                  env={**self.env, "LD_PRELOAD": library, "TZ": "UTC",
                                       "FAKETIME": "2001-02-03 04:05:06"},
                                  capture_output=True, text=True, timeout=DEADLINE_S, check=False)
            self.assertEqual((done.stdout, done.stderr, done.returncode), ("2001\n", "", 0))

    def test_functions_are_left_alone_that_only_an_old_table_names(self):
        self.goes_well(self.names(HEAP), "functions", "-Wl,--hash-style=sysv")


if __name__ == "__main__":
    if STEP != "--made" and not shutil.which("nm"):
        print("binutils' nm is not installed")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
