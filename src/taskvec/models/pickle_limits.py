"""What a pickle may ask of the unpickler, looked at before anything is built.

Python's unpickler guards neither memory nor depth: a memo entry of number 2^31 reserves 32 GB, and a tuple nested a
million times ends the process when it becomes a key, without an exception.
"""

import pickletools
from typing import Any

MOST_OPCODES = 2_000_000  # a checkpoint of 1000 weights with the state of its optimizer has about 100,000
DEEPEST = 500

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_FILLS = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")  # put what follows into what is there

# of every instruction: how many objects it takes from the stack, whether it takes those since the last mark too, how
# many it leaves
_EFFECTS = {
    opcode.name: (
        len([kind for kind in opcode.stack_before if kind not in (pickletools.markobject, pickletools.stackslice)]),
        pickletools.markobject in opcode.stack_before,
        len(opcode.stack_after),
    )
    for opcode in pickletools.opcodes
}


def check_limits(stream: Any) -> None:
    """Follow one pickle of a binary stream to its end, with nothing but the depth of what would be on the stack.

    Raises ValueError where it is too long, nests too deeply, numbers its memo absurdly or is no pickle.
    """
    depths: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            name = opcode.name
            if number >= MOST_OPCODES:
                raise ValueError(f"its pickle has more than {MOST_OPCODES:,} instructions")
            if name in _PUTS:
                index = int(argument)  # pyright: ignore[reportArgumentType] a number, for these
                if index > MOST_OPCODES:
                    raise ValueError(f"its pickle numbers an object {index}")
                memo[index] = depths[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = depths[-1]
            elif name in _GETS:
                depths.append(memo[int(argument)])  # pyright: ignore[reportArgumentType]
            elif name == "MARK":
                marks.append(len(depths))
            elif name == "POP" and marks and marks[-1] == len(depths):
                marks.pop()
            else:
                _follow(name, depths, marks)
            if depths and depths[-1] > DEEPEST:
                raise ValueError(f"its pickle nests objects more than {DEEPEST} deep")
    except (IndexError, KeyError) as error:
        raise ValueError("its pickle is damaged") from error


def _follow(name: str, depths: list[int], marks: list[int]) -> None:
    """Take from the stack what an instruction takes, and leave the depth of what it leaves."""
    count, marked, leaves = _EFFECTS[name]
    if count == 0 and not marked:
        depths.extend([0] * leaves)
        return
    start = (marks.pop() if marked else len(depths)) - count
    if start < 0:
        raise IndexError
    taken = depths[start:]
    del depths[start:]
    depth = 1 + max(taken, default=0)
    if name in _FILLS:
        depth = max(taken[0], 1 + max(taken[1:], default=0))
    depths.extend([depth] * leaves)
