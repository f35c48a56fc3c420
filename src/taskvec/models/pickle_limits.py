"""What a pickle may ask of the unpickler, looked at before anything is built.

Python's unpickler guards neither memory nor depth: a memo entry of number 2^31 reserves 32 GB, and a tuple nested a
million times ends the process when it becomes a key, without an exception.
"""

import pickletools
from typing import Any

MOST_OPCODES = 5_000_000  # a checkpoint of 1000 weights with the state of its optimizer has about 100,000
DEEPEST = 500

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_FILLS = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")  # put what follows into what is there


def check_limits(stream: Any) -> None:
    """Follow one pickle of a binary stream to its end, with nothing but the depth of what would be on the stack.

    Raises ValueError where it is too long, nests too deeply, numbers its memo absurdly or is no pickle.
    """
    depths: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if number >= MOST_OPCODES:
                raise ValueError(f"its pickle has more than {MOST_OPCODES:,} instructions")
            if opcode.name in _PUTS:
                if int(argument) > MOST_OPCODES:  # pyright: ignore[reportArgumentType] a number, for these
                    raise ValueError(f"its pickle numbers an object {argument}")
                memo[int(argument)] = depths[-1]  # pyright: ignore[reportArgumentType]
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = depths[-1]
            elif opcode.name in _GETS:
                depths.append(memo[int(argument)])  # pyright: ignore[reportArgumentType]
            elif opcode.name == "MARK":
                marks.append(len(depths))
            else:
                _follow(opcode, depths, marks)
            if depths and depths[-1] > DEEPEST:
                raise ValueError(f"its pickle nests objects more than {DEEPEST} deep")
    except (IndexError, KeyError) as error:
        raise ValueError("its pickle is damaged") from error


def _follow(opcode: pickletools.OpcodeInfo, depths: list[int], marks: list[int]) -> None:
    """Take from the stack what an instruction takes, and leave the depth of what it leaves."""
    if opcode.name == "POP" and marks and marks[-1] == len(depths):
        marks.pop()
        return
    before = opcode.stack_before
    if pickletools.markobject in before:
        start = marks.pop() - before.index(pickletools.markobject)
    else:
        start = len(depths) - len(before)
    if start < 0:
        raise IndexError
    taken = depths[start:]
    del depths[start:]
    depth = 1 + max(taken, default=0)
    if opcode.name in _FILLS:
        depth = max(taken[0], 1 + max(taken[1:], default=0))
    depths.extend(depth for _ in opcode.stack_after)
