#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""berth-infer as a person runs it: its output, its exit codes, its messages.

    test_infer.py BERTH-INFER SHIPPED-MODEL REFERENCE-DATA

The answers are compared with those that an independent implementation gave
(REFERENCE-DATA/shipped/expected.json) and with each other.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM, MODEL, DATA = sys.argv[1:4]
ANSWERS = json.loads((pathlib.Path(DATA) / "shipped" / "expected.json").read_text("utf-8"))


def run(*arguments, stdin=b"", model=MODEL, isa=None):
    environment = dict(os.environ)
    environment.pop("BERTH_INFER_ISA", None)
    if isa:
        environment["BERTH_INFER_ISA"] = isa
    return subprocess.run(
        [PROGRAM, "--model", str(model), *arguments],
        input=stdin, capture_output=True, env=environment, timeout=120)


def text(*arguments, **options):
    """The output of a run that must succeed and say nothing else."""
    done = run(*arguments, **options)
    assert done.returncode == 0, done
    assert done.stderr == b"", done
    return done.stdout


class Answers(unittest.TestCase):
    def test_greedy_answers_are_those_of_the_reference(self):
        for answer in ANSWERS:
            want = answer["greedy_ids"]
            out = text("--prompt", answer["text"], "--ids", "--max-tokens", str(len(want)))
            self.assertEqual([int(i) for i in out.split()], want)

    def test_prompts_as_ids_and_as_text_are_the_same(self):
        for answer in ANSWERS:
            ids = ",".join(map(str, answer["prompt_ids"]))
            self.assertEqual(text("--prompt-ids", ids), text("--prompt", answer["text"]))

    def test_each_line_of_stdin_is_answered_as_if_alone(self):
        prompts = [answer["text"] for answer in ANSWERS]
        alone = b"".join(text("--prompt", prompt, "--max-tokens", "20") for prompt in prompts)
        lines = "\n\n".join(prompts).encode()
        self.assertEqual(text("--max-tokens", "20", stdin=lines), alone)
        self.assertEqual(text("--max-tokens", "20", stdin=lines.replace(b"\n", b"\r\n")), alone)
        options = [item for prompt in prompts for item in ("--prompt", prompt)]
        self.assertEqual(text("--max-tokens", "20", *options), alone)

    def test_a_line_is_answered_before_the_next_is_written(self):
        prompt = ANSWERS[0]["text"]
        alone = text("--prompt", prompt, "--ids", "--max-tokens", "8")
        child = subprocess.Popen(
            [PROGRAM, "--model", MODEL, "--interactive", "--ids", "--max-tokens", "8"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3):
            child.stdin.write(prompt.encode() + b"\n")
            child.stdin.flush()
            self.assertEqual(child.stdout.readline(), alone)
        child.stdin.close()
        self.assertEqual(child.stdout.read(), b"")
        child.stdout.close()
        self.assertEqual(child.wait(), 0)

    def test_echo_writes_the_prompt_first(self):
        plain = text("--prompt", "In the", "--max-tokens", "5")
        self.assertEqual(text("--prompt", "In the", "--max-tokens", "5", "--echo"),
                         b"In the" + plain)

    def test_any_bytes_are_a_prompt_and_the_answer_is_utf8(self):
        for prompt in ["\u03b1\u03b2 \u65e5\u672c \U0001f600".encode(), b"\xff\xfe\xc3", b"a\0b"]:
            text("--max-tokens", "30", stdin=prompt).decode("utf-8")
            text("--max-tokens", "30", "--temperature", "5", "--ignore-eos",
                 stdin=prompt).decode("utf-8")


class Determinism(unittest.TestCase):
    def test_threads_do_not_change_the_text(self):
        options = ["--prompt", ANSWERS[0]["text"], "--temperature", "0.8", "--top-k", "50"]
        first = text(*options, "--threads", "1")
        for threads in "2", "3", "7":
            self.assertEqual(text(*options, "--threads", threads), first)

    def test_a_seed_repeats_and_another_differs(self):
        options = ["--prompt", ANSWERS[0]["text"], "--temperature", "1", "--top-p", "0.95"]
        first = text(*options, "--seed", "1")
        self.assertEqual(text(*options, "--seed", "1"), first)
        self.assertNotEqual(text(*options, "--seed", "2"), first)

    def test_each_instruction_set_gives_the_reference(self):
        answer = ANSWERS[0]
        want = answer["greedy_ids"]
        for isa in "scalar", "avx2", "avx512":
            done = run("--prompt", answer["text"], "--ids", "--max-tokens", str(len(want)),
                       isa=isa)
            if done.returncode == 1 and b"as far as this CPU has it" in done.stderr:
                continue
            self.assertEqual([int(i) for i in done.stdout.split()], want, isa)


class Reports(unittest.TestCase):
    def test_logits_are_lines_of_json(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "logits")
            text("--prompt", ANSWERS[0]["text"], "--prompt", ANSWERS[1]["text"],
                 "--max-tokens", "1", "--logits", path)
            with open(path, encoding="ascii") as lines:
                rows = [json.loads(line) for line in lines]
        self.assertEqual([row["prompt_ids"] for row in rows],
                         [answer["prompt_ids"] for answer in ANSWERS[:2]])
        want = ANSWERS[0]["logits_last"]
        scale = max(map(abs, want))
        for have, expected in zip(rows[0]["logits_last"], want, strict=True):
            self.assertLessEqual(abs(have - expected), 1e-3 * scale)

    def test_stats_go_to_stderr(self):
        done = run("--prompt", "In the", "--max-tokens", "20", "--ignore-eos", "--stats")
        self.assertEqual(done.stdout, text("--prompt", "In the", "--max-tokens", "20",
                                           "--ignore-eos"))
        rows = dict(line.split(": ", 1) for line in done.stderr.decode().splitlines())
        size = os.stat(os.path.join(MODEL, "model.safetensors")).st_size
        self.assertAlmostEqual(int(rows["weight bytes"]) / size, 1, delta=0.02)
        self.assertGreater(int(rows["kv bytes"]), 0)
        self.assertGreater(int(rows["activation bytes"]), 0)
        self.assertTrue(rows["decode"].startswith("19 tokens, "))
        self.assertGreater(float(rows["machine reads"].split()[0]), 0)
        self.assertGreater(float(rows["fraction of the machine"]), 0)


class Mistakes(unittest.TestCase):
    def refused(self, code, message, *arguments, **options):
        done = run(*arguments, **options)
        self.assertEqual(done.returncode, code, done)
        self.assertIn(message, done.stderr.decode())
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        return done

    def test_command_lines_that_make_no_sense_exit_2(self):
        for message, arguments in [
                ("--no-such: is no option", ["--no-such"]),
                ("--seed: needs a value", ["--seed"]),
                ("--threads: is \"0\"; expected a whole number", ["--threads", "0"]),
                ("--threads: is \"-1\"", ["--threads", "-1"]),
                ("--max-tokens: is \"1x\"", ["--max-tokens", "1x"]),
                ("--temperature: is \"nan\"", ["--temperature", "nan"]),
                ("--top-p: is \"1.5\"", ["--top-p", "1.5"]),
                ("--top-k: is \"99999999999999999999\"", ["--top-k", "9" * 20]),
                ("stray: is not expected", ["stray"])]:
            self.refused(2, message, *arguments)
        done = subprocess.run([PROGRAM], capture_output=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"--model: is missing", done.stderr)

    def test_help_and_version_exit_0(self):
        for option in "--help", "--version":
            done = subprocess.run([PROGRAM, option], capture_output=True)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertIn(b"berth-infer", done.stdout)

    def test_a_missing_model_names_its_file(self):
        self.refused(1, "/nowhere/config.json: No such file", model="/nowhere")
        self.refused(1, "BERTH_INFER_ISA: is \"mmx\"", isa="mmx")

    def test_a_prompt_that_fails_leaves_the_next_its_turn(self):
        limit = json.loads((pathlib.Path(MODEL) / "config.json").read_text())
        long = "a b " * limit["max_position_embeddings"]
        want = text("--prompt", "In the", "--max-tokens", "5")
        done = self.refused(1, "the model's context has room for",
                            "--max-tokens", "5", stdin=(long + "\nIn the\n").encode())
        self.assertEqual(done.stdout, want)
        self.refused(1, "--prompt-ids: is \"1,,2\"", "--prompt-ids", "1,,2")
        self.refused(1, "is not in the model's vocabulary", "--prompt-ids", "99999999")

    def test_a_context_that_fills_ends_the_answer(self):
        folder = pathlib.Path(DATA) / "f32_mha_defaults"
        done = run("--prompt-ids", "1,2,3", "--ids", "--ignore-eos", "--max-tokens", "1000",
                   model=folder)
        limit = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
        self.assertEqual(done.returncode, 0)
        self.assertEqual(len(done.stdout.split()), limit - 3 + 1)
        self.assertIn(f"the context of {limit} tokens is full", done.stderr.decode())

    def test_output_that_nobody_takes_is_an_error(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "--model", MODEL, "--prompt", "a", "--prompt", "b"],
                                  stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count(b"stdout: "), 1)

    def test_a_model_that_was_cut_off_is_refused(self):
        source = pathlib.Path(DATA) / "f32_tied_llama3"
        whole = (source / "model.safetensors").read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(source / "config.json", folder)
            path = os.path.join(folder, "model.safetensors")
            for length in [0, 7, 8, 9, 500, len(whole) // 2, len(whole) - 1]:
                with open(path, "wb") as file:
                    file.write(whole[:length])
                self.refused(1, "model.safetensors: ", "--prompt-ids", "1", "--ids",
                             model=folder)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
