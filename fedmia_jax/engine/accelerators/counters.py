"""What a compiled program says of itself, without running: its loops, and what one pass of the innermost costs.

Read from the text of an optimised XLA module. A TPU's compiler estimates the cycles of every fusion. On a GPU every
instruction that is not a mere view is a kernel, which reads its operands and writes its results; of an operand from
which it only picks some, it reads these.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping

COMPUTATION = re.compile(r"^(?:ENTRY )?%([^\s(]+) \(.*\{$")
INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%(?P<name>\S+) = (?P<shape>\(.*?\)|\S+) (?P<opcode>[a-z][a-z0-9-]*)\((?P<args>.*)$"
)
ARRAY = re.compile(r"\b(pred|[a-z]+\d+(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
OPERAND = re.compile(r"%([^\s,()]+)")
CALLED = re.compile(r"\b(body|to_apply|calls)=%([^\s,()]+)")
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
# No work of a device's own: names, views, and the ends of what was begun elsewhere.
VIEWS = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id")
)
ENDS = ("-done",)
PICKS = ("dynamic-slice", "gather", "slice")  # read of their first operand what they answer
WITHIN = ("call", "async-start", "conditional")  # run what they call, and are nothing beside it


@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass through the loop that a program spends its time in, or through a program without loops.

    Attributes:
      depth: loops around it, itself counted; 0 for a program without.
      kernels: instructions that a GPU launches.
      nbytes: operands and results of those, in bytes.
      cycles: that a TPU's compiler estimates, all fusions in turn; 0 where it says nothing.
    """

    depth: int
    kernels: int
    nbytes: int
    cycles: int


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    called: tuple[tuple[str, str], ...]
    cycles: int
    number: int  # which of its computation's, of a parameter


def read(text: str) -> Pass:
    """Returns the innermost pass of an optimised module: of the deepest loops, the one that moves most bytes.

    Args:
      text: of the module, as `Compiled.as_text()` gives it.
    """
    computations, entry = _parse(text)
    passes = [_measure(computations, name, depth) for name, depth in _loops(computations, entry, 0)]
    return max(passes, key=lambda found: (found.depth, found.nbytes))


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """The computations of a module by name, and the name of the first that runs."""
    computations: dict[str, list[_Instruction]] = {}
    current: list[_Instruction] = []
    entry = ""
    for line in text.splitlines():
        if begun := COMPUTATION.match(line):
            current = computations.setdefault(begun[1], [])
            entry = begun[1] if line.startswith("ENTRY") else entry
        elif found := INSTRUCTION.match(line):
            cycles = CYCLES.search(line)
            arguments = _arguments(found["args"])
            rest = found["args"][len(arguments) :]
            current.append(
                _Instruction(
                    found["name"],
                    found["opcode"],
                    found["shape"],
                    tuple(OPERAND.findall(arguments)),
                    tuple(CALLED.findall(rest)),
                    int(cycles[1]) if cycles else 0,
                    int(arguments) if found["opcode"] == "parameter" else 0,
                )
            )
    return computations, entry


def _arguments(text: str) -> str:
    """What stands before the bracket that closes the operands."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[:place]
    return text


def _loops(computations: Mapping[str, list[_Instruction]], name: str, depth: int) -> Iterator[tuple[str, int]]:
    """A computation and the bodies of all loops that it runs, with how many loops are around each."""
    yield name, depth
    for instruction in computations[name]:
        for role, called in instruction.called:
            if instruction.opcode == "while" and role == "body":
                yield from _loops(computations, called, depth + 1)
            elif instruction.opcode in WITHIN:
                yield from ((inner, level) for inner, level in _loops(computations, called, depth) if level > depth)


def _measure(computations: Mapping[str, list[_Instruction]], name: str, depth: int) -> Pass:
    """One pass through a computation, what it calls in line counted, loops within it not."""
    sizes = {instruction.name: _nbytes(instruction.shape) for instruction in computations[name]}
    kernels = nbytes = cycles = 0
    for instruction in computations[name]:
        cycles += instruction.cycles
        if instruction.opcode in WITHIN:
            for _, called in instruction.called:
                inner = _measure(computations, called, depth)
                kernels, nbytes, cycles = kernels + inner.kernels, nbytes + inner.nbytes, cycles + inner.cycles
        elif instruction.opcode not in (*VIEWS, "while") and not instruction.opcode.endswith(ENDS):
            kernels += 1
            nbytes += sizes[instruction.name] + _nbytes_read(computations, instruction, sizes)
    return Pass(depth, kernels, nbytes, cycles)


def _nbytes_read(
    computations: Mapping[str, list[_Instruction]], instruction: _Instruction, sizes: Mapping[str, int]
) -> int:
    """Bytes that an instruction reads of its operands."""
    each = [sizes.get(operand, 0) for operand in instruction.operands]
    if instruction.opcode in PICKS:
        each[0] = min(each[0], sizes[instruction.name])
    bodies = [called for role, called in instruction.called if role == "calls"]
    if instruction.opcode != "fusion" or not bodies:
        return sum(each)
    within = computations.get(bodies[0], [])
    names = {inner.number: inner.name for inner in within if inner.opcode == "parameter"}
    for number, size in enumerate(each):
        uses = [inner for inner in within if names.get(number) in inner.operands]
        if uses and all(inner.opcode in PICKS and inner.operands[0] == names[number] for inner in uses):
            each[number] = min(size, sum(_nbytes(inner.shape) for inner in uses))
    return sum(each)


def _nbytes(shape: str) -> int:
    """Bytes of an array, or of all arrays of a tuple."""
    total = 0
    for kind, dimensions in ARRAY.findall(shape):
        count = 1
        for dimension in filter(None, dimensions.split(",")):
            count *= int(dimension)
        bits = 8 if kind == "pred" else int(re.sub(r"^[a-z]+(\d+).*", r"\1", kind))
        total += count * max(bits, 8) // 8
    return total
