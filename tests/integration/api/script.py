# SPDX-License-Identifier: Apache-2.0
"""Goal: a script uses the API through ctypes, and the same script runs without Berth.
Method: argv[1] says what to expect, "absent" or "present"; exit code 1 tells what was wrong."""
import ctypes
import errno
import sys

WEIGHT, UNTAGGED = 1, 0


class BlockInfo(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("requested", ctypes.c_size_t),
                ("held", ctypes.c_size_t), ("tag", ctypes.c_int),
                ("tier", ctypes.c_char_p), ("rule", ctypes.c_char_p)]


process = ctypes.CDLL(None)
present = hasattr(process, "berth_tag_push")


def push(tag):
    return process.berth_tag_push(tag) if present else 0


def pop():
    return process.berth_tag_pop() if present else 0


def describe(address):
    info = BlockInfo()
    if not present:
        return -errno.ENOSYS, info
    r = process.berth_describe(ctypes.c_void_p(address), ctypes.byref(info),
                               ctypes.c_size_t(ctypes.sizeof(info)))
    return r, info


def main():
    expected = sys.argv[1] == "present"
    if present != expected:
        return f"Berth is {'' if present else 'not '}there"
    push(WEIGHT)
    weights = ctypes.create_string_buffer(1 << 20)
    pop()
    plain = ctypes.create_string_buffer(1 << 20)
    for block, tag in ((weights, WEIGHT), (plain, UNTAGGED)):
        r, info = describe(ctypes.addressof(block))
        if not expected:
            if r != -errno.ENOSYS:
                return f"describe answers {r}"
        elif r != 0 or info.tag != tag or info.requested < 1 << 20 or info.tier != b"dram":
            return f"describe answers {r}, tag {info.tag} instead of {tag}, {info.tier}"
    return None


sys.exit(main())
