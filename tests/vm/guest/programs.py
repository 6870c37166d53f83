# SPDX-License-Identifier: Apache-2.0
"""Runs programs of tests/integration in a guest, as they are, and tells each of their cases.

usage: programs.py PLAN SERIAL

SERIAL is where the lines go that the host reads. plans() says what runs, and the tables before it
what does not, and why: the host's own run has it. TEST_NAME in the environment has the words of a
test's command, with colons between. A test of unittest tells its cases one by one, a script that
prints "ok - CASE" or "FAILED - CASE" too, any other is one case.

An emulated processor takes a second and more to start an interpreter and to import what a test does:
one process imports it, and each script runs in a child that it forks.
"""
import contextlib  # noqa: F401, with those below: what tests import
import ctypes.util
import glob
import hashlib  # noqa: F401
import json  # noqa: F401
import os
import pathlib  # noqa: F401
import pty  # noqa: F401
import re
import runpy
import shutil  # noqa: F401
import socket  # noqa: F401
import subprocess
import sys
import tempfile  # noqa: F401
import threading  # noqa: F401
import traceback
import unittest

SKIPPED = 77
# A guest's clock goes on while its host has other work: what a test waits for may take longer.
PATIENCE = 20


class Test:
    """A program, and which of its cases do not run here: their names, with the reason."""

    folder = None

    def __init__(self, name, *more, env=None, preload=(), left=None, only=()):
        """`more`: arguments behind those of TEST_NAME. `env`: variables of its environment.
        `preload`: variables whose libraries are preloaded into it; a process of its own then.
        `only`: the names of the cases that run, where the others are all about the same."""
        self.command = os.environ.get("TEST_" + name, "").split(":") + list(more)
        self.name = " ".join([name.lower(), *(os.path.basename(word) for word in more)])
        self.env = env or {}
        self.preload = ":".join(os.environ[name] for name in preload)
        self.left = left or {}
        self.only = set(only)


    @classmethod
    def as_told(cls, told):
        """One that whole.py has told of, with its folder, as the host has it."""
        test = cls(told["name"], env=told["environment"])
        command = told["command"]
        test.command = command[1:] if command[1:] and command[1].endswith(".py") else command
        test.preload = test.env.pop("LD_PRELOAD", "")
        test.folder = told["folder"]
        return test


MANY = "is another turn of what cases here do"
THREADS = "a single processor is not enough for so many threads that never wait"
STARTS = "starts hundreds of processes, and places no memory"
LONG = "takes long on an emulated processor"
MODEL = "is about the program's files: where the weights are kept is the same"
TMPFS = "is about tmpfs, which every kernel has"
OTHERS = "is about a file system that guests do not have"
TOOL = "is about what the tool says, whatever the tier"
DRIVER = "needs the simulated driver of devices"
DEVICES = "is about a device's memory, which is simulated: the same on every kernel"

CLI_LEFT = {
    "test_every_exit_status_is_the_commands_own": STARTS,
    "test_help_names_every_command": STARTS,
    "test_device_memory_is_told": DRIVER,
    "test_a_killed_process_leaves_nothing_that_confuses": MANY,
    "test_every_deadly_signal_is_the_commands_own": STARTS,
    "test_which_process_is_meant_must_be_clear": TOOL,
    "test_a_stopped_process_is_told_from_a_dead_one": TOOL,
    "test_a_watch_clears_only_what_is_a_screen": TOOL,
    "test_a_watch_goes_on_when_the_program_becomes_another": TOOL,
    "test_a_process_cannot_give_orders_to_a_terminal": TOOL,
    "test_hundreds_of_rules_are_all_told": TOOL,
}
MOVE_LEFT = {
    "test_two_hundred_threads": THREADS,
    "test_who_interrupts_the_command_cancels_the_move": LONG,
    "test_the_command_waits_for_a_program_that_is_stopped": LONG,
    "test_a_program_is_stopped_amid_a_move": MANY,
}
FULL_LEFT = {
    "test_so_they_do_in_huge_pages": TMPFS,
    "test_a_filesystem_that_is_made_larger_and_smaller_is_used_as_far_as_it_goes": TMPFS,
    "test_an_error_of_the_disk_is_told_and_borne": TMPFS,
    "test_so_is_a_quota_that_is_used_up": TMPFS,
    "test_a_group_that_may_have_less_than_the_filesystem_ends_no_program": TMPFS,
    "test_nor_does_one_that_compresses_and_writes_elsewhere": OTHERS,
    "test_a_child_shares_no_blocks_for_which_a_full_disk_has_no_other_place": OTHERS,
    "test_nor_does_it_on_another_filesystem_that_could": LONG,
    "test_so_they_do_where_freed_memory_is_kept": MANY,
}
INFER_LEFT = {
    "test_shards_are_looked_at_one_by_one": MODEL,
    "test_weights_that_have_changed_are_read_again": MODEL,
    "test_two_at_once_share_one_image": MODEL,
    "test_damaged_contents_are_made_anew": LONG,
    "test_where_nothing_can_be_kept_it_says_why_and_answers": MODEL,
}
FILE = "is about a file: the run on fsdax has it"
DAX_LEFT = {
    "test_a_damaged_store_is_told_and_left_alone": FILE,
    "test_damaged_contents_are_seen_with_verify_full": FILE,
    "test_a_reader_without_rights_to_write_reads": FILE,
    "test_processes_that_want_the_same_block_get_it": FILE,
}
SHADOW_LEFT = {name: MANY for name in (
    "test_so_they_are_by_threads", "test_variables_of_threads_are_left_alone",
    "test_variables_of_all_names_are_left_alone",
    "test_so_they_are_in_a_program_at_a_fixed_address",
    "test_the_loaders_list_may_be_a_variable_of_the_program",
    "test_preloaded_locks_and_clocks_that_allocate_are_the_programs_alone",
    "test_functions_are_left_alone_that_only_an_old_table_names",
    "test_what_is_preloaded_is_asked_nothing_about_files")}
SHADOW_LEFT["test_fakeroot_may_be_preloaded"] = STARTS
# For these nothing has to be made on the host, by the names of their tests.
UNMADE = {"SHADOW": SHADOW_LEFT}
SITES_LEFT = {
    "test_any_path_is_answered_soon": TOOL,
    "test_questions_that_cannot_be_answered": TOOL,
    "test_paths_of_cpp_are_taken_as_printed": TOOL,
    "test_samples_begin_and_end_with_the_reading": MANY,
    "test_names_are_the_same_in_every_run_and_build":
        "needs addresses that differ from run to run: here they do not",
}
# Of a recording the guest can have a part in where its file lies, and in who ends when.
RECORD_HERE = ("test_every_call_is_there_in_order", "test_a_killed_program_leaves_its_trace",
               "test_what_is_no_file_stays_what_it_is", "test_by_the_environment_alone",
               "test_until_interrupted", "test_the_history_is_the_programs")
REPLAY_HERE = ("test_known_numbers", "test_the_simulated_driver", "test_a_pipe_is_read_once")
PLAN_HERE = ("test_the_same_run_needs_one_call", "test_a_damaged_plan_is_refused")
# Programs of tests/integration that no guest of run.py runs; whole.py's does.
NEVER = {
    "cuda": DEVICES,
    "torch": "loads some 280 libraries, 1.7 s of a real processor before it begins",
    "client gcc": "reads megabytes of headers: client cc has none",
    "infer-program": "is about the program without Berth",
    "client python": LONG + ", 9 s; the tests of the tool start Python under Berth here",
    "client nginx": LONG + ", 6 s",
    "client node, java": LONG.replace("takes", "take"),
    "site-short-threads, client-own-names": "place no memory",
}


def plans():
    malloc, both = ("BERTH_MALLOC",), ("BERTH_CUDA", "BERTH_MALLOC")
    # The tool knows source lines where a library for it was built.
    lines = {"BERTH_TEST_LINES": "1" if "BERTH_LINES" in os.environ else "0"}
    node = {"BERTH_TEST_TIER": "kind = numa  nodes = 1"}
    return {
        # All of them, as a person starts them who has hours.
        "whole": lambda: [Test.as_told(told) for told in json.loads(
            pathlib.Path(__file__).with_name("whole.json").read_text(encoding="utf-8"))],
        # What takes a folder has it on ext4 with dax=always.
        "fsdax": lambda: [
            *(Test(name, "present", preload=preload) for preload in (malloc, both)
              for name in ("API_PIE", "API_NOPIE", "API_SCRIPT")),
            Test("SITE"), Test("PERSIST"), Test("PMEM"), Test("CLI", left=CLI_LEFT),
            Test("INFER_UNDER_BERTH"), Test("INFER_PERSIST", left=INFER_LEFT), Test("ALONE"),
            Test("CLIENT", "perl", "mixed"),
            *(Test("CLIENT", name, "mixed", env={"BERTH_TEST_PROBED": "mixed"})
              for name in ("sqlite3", "bash", "git", "redis", "tools", "cc")),
            Test("INSTALL"), Test("SITES_TOOL", left=SITES_LEFT, env=lines),
            Test("USED_UP", "1000", "1", "3"), Test("VALGRIND", "30"),
            Test("RECORD", only=RECORD_HERE), Test("REPLAY", only=REPLAY_HERE),
            Test("PLAN", only=PLAN_HERE),
            # What is persistent on dax is flushed by libpmem, whose constructors call what the
            # program has by the names that they import (alloc/private_library.h).
            Test("SHADOW", left=SHADOW_LEFT,
                 env={"TMPDIR": "/tmp", "BERTH_TEST_NEAR": "/mnt/pmem"}),
        ],
        "moves": lambda: [Test("MOVE", left=MOVE_LEFT), Test("FULL", left=FULL_LEFT)],
        # A device has one user, and clients start programs that would be others.
        "dax": lambda: [
            # What is there now is nobody's.
            Test("TOOL", "pmem", "init", os.environ["DEVICE"], "kept", "--force"),
            Test("PERSIST", os.environ["DEVICE"], left=DAX_LEFT),
        ],
        "node": lambda: [
            Test("CLIENT", "perl", "far", env=node),
            Test("CLIENT", "openssl", "far", env={**node, "BERTH_TEST_PROBED": "far"}),
        ],
    }


class Teller:
    """Says how cases ended, on a line that the host reads."""

    def __init__(self, plan, path):
        self.plan = plan
        self.count = 0
        self.file = open(path, "w", encoding="utf-8", errors="replace")

    def say(self, line):
        self.file.write(line.replace("\r", "") + "\n")
        self.file.flush()

    def comment(self, text):
        for line in text.splitlines()[-40:]:
            self.say("# " + line)

    def case(self, truth, name, why=""):
        self.count += 1
        if not truth:
            self.comment(why)
        self.say(f"{'ok' if truth else 'not ok'} {self.plan}, {name}")

    def skip(self, name, reason):
        self.count += 1
        # Before the first colon is the name.
        self.say(f"skip {self.plan}, {name.replace(':', ',')}: {reason}")


class Result(unittest.TestResult):
    """Tells the cases of a test as they end."""

    def __init__(self, test, teller):
        super().__init__()
        self.test, self.teller = test, teller

    def name(self, case):
        return f"{self.test.name} {case.id().rpartition('.')[2]}"

    def addSuccess(self, test):
        self.teller.case(True, self.name(test))

    def addSkip(self, test, reason):
        self.teller.skip(self.name(test), reason)

    def addFailure(self, test, err):
        self.teller.case(False, self.name(test), "".join(traceback.format_exception(*err)))

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        if err:
            self.addFailure(test, err)


def cases_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases_of(item)
        else:
            yield item


def run_cases(test, teller):
    """In the place of unittest.main()."""
    module = sys.modules["__main__"]
    if hasattr(module, "DEADLINE_S"):
        module.DEADLINE_S *= PATIENCE
    found = list(cases_of(unittest.defaultTestLoader.loadTestsFromModule(module)))
    names = {case.id().rpartition(".")[2] for case in found}
    for name in sorted((set(test.left) | test.only) - names):
        teller.case(False, f"{test.name} has a case {name}")
    if test.only:
        test.left = dict.fromkeys(names - test.only, DEVICES)
        teller.say(f"# not here: {test.name} {', '.join(sorted(test.left))}: {DEVICES}")
    if not names - set(test.left):
        teller.case(False, f"{test.name} has cases")
    result = Result(test, teller)
    # As a suite: classes may have something to make first.
    unittest.TestSuite(case for case in found
                       if case.id().rpartition(".")[2] not in test.left).run(result)
    sys.exit(0)


def be_patient():
    """What a test waits for may take longer."""
    wait, communicate = subprocess.Popen.wait, subprocess.Popen.communicate

    def wait_longer(self, timeout=None):
        return wait(self, timeout=timeout and timeout * PATIENCE)

    def communicate_longer(self, input=None, timeout=None):
        return communicate(self, input=input, timeout=timeout and timeout * PATIENCE)

    subprocess.Popen.wait, subprocess.Popen.communicate = wait_longer, communicate_longer


def find_library(name):
    """The guest has no ldconfig that would tell."""
    found = sorted(glob.glob(f"/usr/lib/x86_64-linux-gnu/lib{name}.so.*"))
    return os.path.basename(found[0]) if found else None


def run_script(test):
    """Its status, in a child of its own."""
    try:
        runpy.run_path(test.command[0], run_name="__main__")
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def tell_script(test, teller, status, said):
    """Of one that told no cases."""
    cases = re.findall(r"^(ok|FAILED) - (.*)", said, re.M)
    for verdict, name in cases:
        teller.case(verdict == "ok", f"{test.name}: {name}", said)
    if status == SKIPPED:
        teller.skip(test.name, said.strip().splitlines()[-1] if said.strip() else "no reason given")
    elif not cases or (status and all(verdict == "ok" for verdict, _ in cases)):
        teller.case(status == 0, test.name, f"status {status}\n{said}")


def run_child(test, teller, output):
    """The child's whole life: its status is 0 if it could tell how its cases ended."""
    teller.count = 0
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(test.env)
    if test.folder:
        os.chdir(test.folder)
    unittest.main = lambda *args, **more: run_cases(test, teller)
    is_script = test.command[0].endswith(".py")
    if test.preload or not is_script:
        preload = {"LD_PRELOAD": test.preload} if test.preload else {}
        status = subprocess.run([*([sys.executable] if is_script else []), *test.command],
                                env={**os.environ, **preload}, check=False).returncode
    else:
        sys.argv = test.command
        sys.path[0] = os.path.dirname(test.command[0])
        status = run_script(test)
    sys.stdout.flush()
    with open("/tmp/said", encoding="utf-8", errors="replace") as file:
        said = file.read()
    if teller.count == 0:
        tell_script(test, teller, status, said)
    elif status != 0:
        teller.case(False, f"{test.name} came to its end", f"status {status}\n{said}")


def run(test, teller):
    """How many cases it had."""
    read, write = os.pipe()
    output = os.open("/tmp/said", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            run_child(test, teller, output)
            os.write(write, b"%d" % teller.count)
        os._exit(0)
    os.close(write)
    os.close(output)
    _, status = os.waitpid(child, 0)
    # What it has started, and not ended, may hold the other end.
    os.set_blocking(read, False)
    try:
        count = int(os.read(read, 32) or b"0")
    except BlockingIOError:
        count = 0
    os.close(read)
    if status != 0 or count == 0:
        with open("/tmp/said", encoding="utf-8", errors="replace") as file:
            teller.case(False, f"{test.name} came to its end", f"status {status}\n{file.read()}")
    return count


def main(plan, serial):
    teller = Teller(plan, serial)
    be_patient()
    if plan != "whole":
        ctypes.util.find_library = find_library
    tests = plans()[plan]()
    # As on the host, where nobody has named these.
    for name in [name for name in os.environ if name.startswith("BERTH")]:
        del os.environ[name]
    count = 0
    for test in tests:
        for name, reason in test.left.items():
            teller.say(f"# not here: {test.name} {name}: {reason}")
        if test.command[0] == "":
            teller.say(f"# not here: {test.name}: it was not built")
            continue
        count += run(test, teller)
    if plan == "fsdax":
        for names, reason in NEVER.items():
            teller.say(f"# not here: {names}: {reason}")
    teller.say(f"# {count} cases of {len(tests)} programs of tests/integration ran here ({plan})")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
