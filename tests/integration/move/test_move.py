# SPDX-License-Identifier: Apache-2.0
"""Goal: blocks of a running program are moved from outside, and no byte of it is ever wrong.
Method: move_client runs under `berth run`; its threads write to its blocks and check each byte,
while `berth policy apply --move` and the socket send them from tier to tier.
usage: test_move.py BERTH CLIENT"""
import ctypes
import errno
import glob
import json
import os
import pathlib
import platform
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

berth, client = sys.argv[1:3]
PATIENCE_S = 400  # beyond it something hangs: 200 threads may share a busy core
KIB, MIB = 1 << 10, 1 << 20
SHM = "/dev/shm"


def kind_of(path):
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True,
                          text=True).stdout.strip()


def forbid_calls():
    """As a container does: userfaultfd, mbind, move_pages and process_vm_readv fail with EPERM."""
    calls = [323, 237, 279, 310]
    lines = [(0x20, 0, 0, 0)]  # the number of the call
    lines += [(0x15, len(calls) - i, 0, number) for i, number in enumerate(calls)]
    lines += [(0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050000 | errno.EPERM)]
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    text = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, program, 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp")


class Program:
    """The client under Berth, from its first line to its last."""

    def __init__(self, policy, *args, before=None):
        self.process = subprocess.Popen(
            [berth, "run", "--policy", policy, "--", client, *map(str, args)], preexec_fn=before,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.pid = int(self.process.stdout.readline().split()[1])

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self):
        answer = self.ask("end")
        _, stderr = self.process.communicate(timeout=PATIENCE_S)
        return answer, stderr, self.process.returncode


class Move(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="berth-move-")
        self.root = pathlib.Path(self.dir.name)
        (self.root / "disk").mkdir()
        self.runtime = os.environ["XDG_RUNTIME_DIR"] = str(self.root / "run")
        os.mkdir(self.runtime, 0o700)
        self.program = None
        if not os.access(SHM, os.W_OK) or kind_of(SHM) != "tmpfs":
            self.skipTest("/dev/shm is no tmpfs that can be written to")

    def tearDown(self):
        if self.program and self.program.process.poll() is None:
            self.program.process.kill()
            self.program.process.communicate()
        self.dir.cleanup()

    def policy(self, place, movable="yes"):
        file = self.root / f"{place}-{movable}.policy"
        file.write_text(f'''tier shm {{
  kind = file
  path = "{SHM}"
}}
tier disk {{
  kind = file
  path = "{self.root}/disk"
}}
rule weights {{
  tag = weight
  side = host
  place = {{ "{place}" }}
  movable = {movable}
}}
''')
        return file

    def start(self, place, *args, before=None):
        self.program = Program(self.policy(place), *args, before=before)
        return self.program

    def apply(self, place, movable="yes", status=0):
        self.find_socket()
        done = subprocess.run([berth, "policy", "apply", "--move", str(self.program.pid),
                               self.policy(place, movable)], capture_output=True, text=True,
                              timeout=PATIENCE_S)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout

    def stat(self):
        done = subprocess.run([berth, "stat", "--json", str(self.program.pid)],
                              capture_output=True, text=True, timeout=PATIENCE_S)
        return json.loads(done.stdout)

    def needs_live(self):
        doctor = json.loads(self.ask_socket({"op": "doctor"}))
        if not doctor["move"]["live"]:
            self.skipTest("nothing moves live here: " + doctor["move"]["why"])

    def find_socket(self):
        """It opens at the first block that a rule has placed, by a thread that has to run
        first."""
        for _ in range(1000):
            for path in glob.glob(f"{self.runtime}/berth/{self.program.pid}-*.sock"):
                with socket.socket(socket.AF_UNIX) as s:
                    if s.connect_ex(path) == 0:
                        return path
            self.assertIsNone(self.program.process.poll())
            time.sleep(0.02)
        self.fail("the process has no socket")

    def ask_socket(self, request):
        path = self.find_socket()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            file = s.makefile("rw")
            file.readline()
            file.write(json.dumps(request) + "\n")
            file.flush()
            return file.readline()

    def ends_right(self):
        answer, stderr, status = self.program.end()
        self.assertEqual((answer, stderr, status), ("right", "", 0))

    def test_blocks_move_while_threads_write(self):
        program = self.start("dram", 40, 300 * KIB + 7, 4)
        self.needs_live()
        self.assertEqual(program.ask("where"), "dram 40")
        # Guests of tests/vm have the first four turns.
        for i in range(4 if os.environ.get("CHECK_EMULATED") else 6):
            place = ["shm", "dram"][i % 2]
            self.assertIn("moved 40 blocks", self.apply(place))
            self.assertEqual(program.ask("where"), f"{place} 40")
            self.assertEqual(program.ask("child"), "child right")
            self.assertEqual(program.ask("churn"), "churned")
            self.assertEqual(program.ask("where"), f"{place} 40")
        self.ends_right()

    def test_the_account_follows(self):
        program = self.start("dram", 10, MIB, 1)
        self.needs_live()
        self.apply("shm")
        tiers = {tier["name"]: tier for tier in self.stat()["tiers"]}
        held = {name: sum(tag["held"] for tag in tier["tags"] if tag["tag"] == "weight")
                for name, tier in tiers.items() if tier.get("tags")}
        self.assertGreaterEqual(held["shm"], 10 * MIB)
        self.assertEqual(held.get("dram", 0), 0)
        self.apply("dram")
        self.ends_right()

    def test_a_file_on_disk_is_left_at_a_quiescent_step(self):
        if kind_of(self.root) == "tmpfs":
            self.skipTest("the temporary directory is no disk")
        program = self.start("dram", 12, 200 * KIB, 2)
        self.needs_live()
        self.apply("disk")
        self.assertEqual(program.ask("where"), "disk 12")
        said = self.apply("dram", status=1)
        self.assertIn("not moved: 12 blocks", said)
        self.assertIn("berth_step_quiescent", said)
        self.assertEqual(program.ask("where"), "disk 12")
        self.assertEqual(program.ask("step"), "12")
        self.assertEqual(program.ask("step"), "0")
        self.assertEqual(program.ask("where"), "dram 12")
        self.ends_right()

    def test_a_program_that_limits_its_system_calls_is_let_alone(self):
        program = self.start("dram", 5, 100 * KIB, 1)
        self.needs_live()
        self.apply("shm")
        if program.ask("limit") != "limited":
            self.skipTest("no program can limit its system calls here")
        done = subprocess.run([berth, "policy", "apply", "--move", str(self.program.pid),
                               self.policy("dram")], capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertEqual(program.ask("step"), "0")
        self.assertEqual(program.ask("where"), "shm 5")
        self.ends_right()

    @unittest.skipIf(platform.machine() != "x86_64", "the filter is for x86-64")
    def test_in_a_container_blocks_move_at_a_quiescent_step(self):
        program = self.start("dram", 5, 100 * KIB, 1, before=forbid_calls)
        # Where there is /dev/userfaultfd, and root may open it, nothing has to wait for the step.
        live = os.access("/dev/userfaultfd", os.R_OK | os.W_OK)
        said = self.apply("shm", status=0 if live else 1)
        self.assertIn("moved 5" if live else "this user may not move them", said)
        self.assertEqual(program.ask("step"), "0" if live else "5")
        self.assertEqual(program.ask("where"), "shm 5")
        self.ends_right()

    def test_what_is_not_movable_stays(self):
        program = self.start("dram", 5, 100 * KIB, 1)
        self.needs_live()
        self.assertIn("does not say movable = yes", self.apply("shm", "no", status=1))
        self.assertEqual(program.ask("where"), "dram 5")
        self.ends_right()

    def test_the_socket_moves_by_order(self):
        program = self.start("dram", 8, MIB, 2)
        self.needs_live()
        answer = json.loads(self.ask_socket({"op": "move", "to": "nowhere"}))
        self.assertEqual(answer["error"]["code"], "no-tier")
        answer = json.loads(self.ask_socket({"op": "move", "tag": "kv", "to": "shm"}))
        self.assertTrue(answer["ok"], answer)
        state = self.wait()
        self.assertEqual(state["total"]["blocks"], 0)
        self.ask_socket({"op": "move", "tag": "weight", "from": "dram", "to": "shm",
                         "max_bytes": "3M"})
        state = self.wait()
        self.assertGreaterEqual(state["moved"]["bytes"], 3 * MIB)
        self.assertEqual(state["tiers"]["shm"]["into"]["blocks"], state["moved"]["blocks"])
        self.assertIn("shm 3", program.ask("where"))
        self.ends_right()

    def wait(self):
        """The state of the job when it has ended. One that was just ordered may not have begun."""
        while True:
            state = json.loads(self.ask_socket({"op": "move.state"}))
            if not state["running"]:
                return state


    def order(self, path, request):
        """Sends a request on a connection of its own, and closes it without reading the answer."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(json.dumps(request).encode() + b"\n")

    def agent(self, path, places, rounds, answers):
        """One who orders moves all the time; every third time it is gone before the answer."""
        for i in range(rounds):
            request = {"op": "move", "tag": "weight", "to": places[i % len(places)]}
            if i % 3 == 2:
                self.order(path, request)
                continue
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                file = s.makefile("rw")
                file.readline()
                for line in (request, {"op": "move.state"}):
                    file.write(json.dumps(line) + "\n")
                    file.flush()
                    answers.append(json.loads(file.readline()))

    def test_two_agents_and_a_policy_at_once(self):
        program = self.start("dram", 30, 200 * KIB + 3, 3)
        self.needs_live()
        path, answers = self.find_socket(), []
        agents = [threading.Thread(target=self.agent, args=(path, places, 40, answers))
                  for places in (["shm", "dram"], ["dram", "shm", "disk"])]
        for agent in agents:
            agent.start()
        for i in range(6):
            file = self.policy(["shm", "dram"][i % 2])
            done = subprocess.run([berth, "policy", "apply", str(program.pid), file],
                                  capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(program.ask("churn"), "churned")
            program.ask("step")
        for agent in agents:
            agent.join()
        for answer in answers:
            if not answer["ok"]:
                self.assertEqual(answer["error"]["code"], "busy")
            elif "total" in answer:
                self.assertLessEqual(answer["done"]["blocks"], answer["total"]["blocks"])
                self.assertLessEqual(answer["moved"]["blocks"], 10 * answer["total"]["blocks"])
        self.assertTrue(any(answer["ok"] for answer in answers))
        self.wait()
        self.ends_right()

    def test_a_program_leaves_amid_a_move(self):
        for size in (64 * KIB, 4 * MIB):
            program = self.start("dram", 12, size, 4)
            self.needs_live()
            self.order(self.find_socket(), {"op": "move", "tag": "weight", "to": "shm"})
            program.process.stdin.write("leave\n")
            program.process.stdin.flush()
            _, stderr = program.process.communicate(timeout=PATIENCE_S)
            self.assertEqual((program.process.returncode, stderr), (0, ""))

    def test_a_program_becomes_another_amid_a_move(self):
        for size in (64 * KIB, 4 * MIB):
            program = self.start("dram", 12, size, 4)
            self.needs_live()
            self.order(self.find_socket(), {"op": "move", "tag": "weight", "to": "shm"})
            program.process.stdin.write("become\n")
            program.process.stdin.flush()
            stdout, stderr = program.process.communicate(timeout=PATIENCE_S)
            self.assertEqual((program.process.returncode, stdout, stderr), (0, "became\n", ""))

    def begin(self, place):
        """The command, when it has begun to move blocks and has not ended; else None."""
        command = subprocess.Popen([berth, "policy", "apply", "--move", str(self.program.pid),
                                    self.policy(place)], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        job = None
        while command.poll() is None:
            state = json.loads(self.ask_socket({"op": "move.state"}))
            if job is None:
                job = state["job"]
            if state["job"] != job and state["running"]:
                return command
        command.communicate()
        return None

    def begun(self, places):
        """(command, place) of those that could be caught while they moved blocks."""
        for i in range(40):
            place = places[i % len(places)]
            command = self.begin(place)
            if command:
                yield command, place
        self.fail("no command was caught while it moved blocks")

    def test_the_command_waits_for_a_program_that_is_stopped(self):
        program = self.start("dram", 24, 8 * MIB, 1)
        self.needs_live()
        for command, place in self.begun(["shm", "dram"]):
            os.kill(program.pid, signal.SIGSTOP)
            said = command.stderr.readline() + command.stderr.readline()
            os.kill(program.pid, signal.SIGCONT)
            told, _ = command.communicate(timeout=PATIENCE_S)
            if not said:  # its last question was answered just before
                continue
            self.assertIn("has not answered", said)
            self.assertIn("waiting for it", said)
            self.assertEqual(command.returncode, 0, told)
            self.assertEqual(program.ask("where"), f"{place} 24")
            break
        self.ends_right()

    def test_who_interrupts_the_command_cancels_the_move(self):
        program = self.start("dram", 24, 8 * MIB, 1)
        self.needs_live()
        for command, place in self.begun(["shm", "dram"]):
            command.send_signal(signal.SIGINT)
            told, said = command.communicate(timeout=PATIENCE_S)
            self.assertIn(command.returncode, (0, 1), said)
            self.assertIn("process", told)
            self.assertFalse(json.loads(self.ask_socket({"op": "move.state"}))["running"])
            if "cancelled" in told:
                self.assertEqual(command.returncode, 1)
                break
        self.apply(place)
        self.assertEqual(program.ask("where"), f"{place} 24")
        self.ends_right()

    def test_the_next_command_waits_for_the_job_of_one_that_was_killed(self):
        program = self.start("dram", 24, 8 * MIB, 1)
        self.needs_live()
        command, place = next(self.begun(["shm", "dram"]))
        command.kill()
        command.communicate()
        other = "dram" if place == "shm" else "shm"
        self.apply(other)
        self.assertEqual(program.ask("where"), f"{other} 24")
        self.ends_right()

    def test_a_program_is_stopped_amid_a_move(self):
        program = self.start("dram", 12, 4 * MIB, 4)
        self.needs_live()
        path = self.find_socket()
        for i in range(6):
            self.order(path, {"op": "move", "tag": "weight", "to": ["shm", "dram"][i % 2]})
            os.kill(program.pid, signal.SIGSTOP)
            os.kill(program.pid, signal.SIGCONT)
            self.wait()
        self.ends_right()

    def test_a_forked_child_moves_its_own(self):
        program = self.start("dram", 20, 100 * KIB, 3)
        self.needs_live()
        self.apply("shm")
        parent, program.pid = program.pid, int(program.ask("heir"))
        self.assertEqual(program.ask("churn"), "churned")
        self.assertNotEqual(parent, program.pid)
        self.find_socket()
        # The threads of guests write less: they have as many turns more.
        turns = 2 if os.environ.get("CHECK_EMULATED") else 1
        for place in ("dram", "shm", "dram", "shm", "dram", "shm")[:3 * turns]:
            self.assertIn("moved 20 blocks", self.apply(place))
            self.assertEqual(program.ask("where"), f"{place} 20")
        self.ends_right()

    def test_two_hundred_threads(self):
        program = self.start("dram", 300, 20 * KIB, 200)
        self.needs_live()
        for place in ("shm", "dram", "shm"):
            self.assertIn("moved 300 blocks", self.apply(place))
            self.assertEqual(program.ask("where"), f"{place} 300")
        self.ends_right()

    def test_a_file_system_that_fills_up_takes_what_fits(self):
        small = self.root / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small],
                                 capture_output=True, text=True)
        if mounted.returncode != 0:
            self.skipTest("no tmpfs can be mounted here: " + mounted.stderr.strip())
        try:
            file = self.policy("dram")
            file.write_text(file.read_text().replace(f'path = "{SHM}"', f'path = "{small}"'))
            self.program = program = Program(file, 16, MIB, 2)
            self.needs_live()
            self.ask_socket({"op": "move", "tag": "weight", "to": "shm"})
            state = self.wait()
            codes = {entry["code"]: entry["blocks"] for entry in state["refused"]}
            self.assertEqual(list(codes), ["no-room"], state)
            self.assertGreater(state["moved"]["blocks"], 0)
            self.assertEqual(state["moved"]["blocks"] + codes["no-room"], 16)
            moved = state["moved"]["blocks"]
            self.assertIn(program.ask("where"), (f"dram {16 - moved}, shm {moved}",
                                                 f"shm {moved}, dram {16 - moved}"))
            self.assertEqual(program.ask("child"), "child right")
            self.ask_socket({"op": "move", "tag": "weight", "to": "dram"})
            self.assertEqual(self.wait()["moved"]["blocks"], moved)
            self.ends_right()
        finally:
            subprocess.run(["umount", "-l", small], check=False)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
