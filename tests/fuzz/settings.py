"""Command lines that are wrong, or strange: each kind a function of a generator of random numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedmia_jax import options
from fedmia_jax.config import schema

Make = Callable[[np.random.Generator], list[str]]

SMALL = (
    "--config.data.num_records=300",
    "--config.data.num_features=10",
    "--config.data.num_classes=3",
    "--config.data.num_federation=60",
    "--config.data.num_test=60",
    "--config.model.hidden=8",
    "--config.federation.nodes=2",
    "--config.federation.cycles=2",
    "--config.shadow.count=2",
)
OTHER_TYPES = (
    *(
        "True",
        "false",
        "None",
        "null",
        "1.5",
        "1.0",
        "0x10",
        "0b1",
        "1_000",
        "1e3",
        "1j",
        "''",
        '""',
        "x",
        " ",
        "",
        "-",
    ),
    *("()", "(1,)", "[]", "[1]", "{}", "{'a': 1}", "(1,2", "'x", "b'x'", "...", "lambda: 0", "__import__('os')", "1,2"),
    *("range(3)", "set()", "{1}", "('loss', 1)", "(None,)", "('a',)", "f'{1}'", "1 + 1", "# x", "=", "==1", "1=2"),
)
HUGE = (
    *(2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**12, 10**30, 10**400, -(2**31), -(2**63)),
    *("1e308", "1e-308", "1e-320", "5e-324", "-1e308", "9" * 5000, "0." + "0" * 400 + "1", "1" + "0" * 20, "1e12"),
)
NOT_FINITE = ("nan", "inf", "-inf", "NaN", "Infinity", "1e999", "-1e999", "-0.0", "-nan", "(nan,)", "(inf, 1)", "+inf")
NESTED = (
    *(
        "(((1,),),)",
        "[[1]]",
        "[1, [2]]",
        "{'a': {'b': 1}}",
        "(" * 50,
        "(" * 300 + ")" * 300,
        "[" * 3000,
        "-" * 3000 + "1",
    ),
    *("((1, 2), (3,))", "(('loss',),)", "[('loss',)]", "{'names': ('loss',)}", "((),)", "1" + "+1" * 5000),
)
STRANGE = (
    *(
        "é",
        "\u202eabc",
        "\u2028",
        "\n",
        "a\nb",
        "\r",
        "\t",
        "\x1b[2J",
        "\x7f",
        "\udcff",
        "\udcc3\udc28",
        "\ufeff1",
        "٣",
        "１",
    ),
    *(
        "½",
        "𝟙",
        "\U000e0001",
        "😀",
        "a" * 5000,
        "..",
        "/",
        "~",
        "$HOME",
        "%s",
        "{}",
        "{0}",
        "[/]",
        "[red]x",
        "\\",
        "\x01",
    ),
    *(
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/mem",
        "/",
        "nul",
        "-",
        "file:///etc/passwd",
        "a:b:c",
        ":",
        "a:",
        ":b",
        "::",
    ),
)
FOREIGN = (
    *(
        "os:path",
        "os:nowhere",
        "nowhere:x",
        "nowhere.at.all:x",
        "sys:exit",
        "builtins:print",
        ".toys:x",
        "toys.:x",
        "json:",
    ),
    *(
        "toys..network:x",
        "toys.network:__doc__",
        "json:loads",
        "fedmia_jax:nothing",
        "fedmia_jax.data.synthetic:SYNTHETIC",
    ),
    *(
        "toys.networks:OneMore",
        "toys.networks:Raises",
        "toys.networks:Untrained",
        "toys.networks:NoHidden",
        "toys:networks",
    ),
    *("toys.attack:TOY", "toys.reader:TOY", "toys.defense:SHIFT", "toys.defense:ROUNDING", "toys.protocol:MEAN"),
    *("toys.network:__class__", "os.path:join", "numpy:nan", "é:x", "1:2", "__main__:x", "toys.reader:toy", "a b:c"),
    *(
        "toys.misbehaving:" + name
        for name in ("NOTHING", "READS_NONE", "READS_NAN", "OTHER_LABELS", "NO_ROUNDS", "WRONG_SCHEDULE", "TEXT")
    ),
)
REGISTRIES = ("data.name", "federation.kind", "defense.names", "attack.names", "model.name")
VIEWS = ("outsider", "insider", "insider:9", "insider:0", "insider:x", "coordinator", "bracket:1@2", "bracket:9@9", ":")
FLAGS = (
    *(
        "--memory_gib={}",
        "--cpu_devices={}",
        "--mode={}",
        "--config={}",
        "--dry_run={}",
        "--keep_models={}",
        "--{}",
        "-{}",
    ),
    *("{}", "--flagfile={}", "--undefok={}", "--config.{}", "--config.={}", "--config.data={}", "--config.sweep={}"),
    *(
        "--config.data..name={}",
        "--config.data[0]={}",
        "--config.data.name.x={}",
        "--noconfig.{}",
        "--config.sweep.={}",
    ),
    *("--config.sweep.data={}", "--config.seed {}", "--no{}", "--config.seed[0]={}", "--config..seed={}", "--help={}"),
    *("--config.__class__={}", "--config.data.__init__={}", "--config.sweep.sweep={}", "--config.sweep.seed={}"),
)


def pick(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    """One of some things."""
    return choices[int(rng.integers(len(choices)))]


def field(rng: np.random.Generator) -> tuple[str, options.Declaration]:
    """Some field of the package."""
    return pick(list(schema.fields().items()), rng)


def near(declaration: options.Declaration, rng: np.random.Generator) -> str:
    """A value at the edge of a field's range, inside or outside, or one of its words."""
    bounds = [declaration.metadata[name] for name in ("low", "high", "above") if declaration.metadata[name] is not None]
    edge = pick(bounds or [0, 1, 10], rng) if declaration.kind in (int, float, tuple) else 0
    steps = (-1, 0, 1) if declaration.kind is int else (-1, -1e-9, 0, 1e-9, 0.5, 1)
    words = declaration.metadata["choices"] or ("True", "False")
    return str(edge + pick(steps, rng)) if declaration.kind in (int, float) else str(pick(words, rng))


def of_texts(texts: Sequence[Any]) -> Make:
    """A field with one of some texts."""

    def make(rng: np.random.Generator) -> list[str]:
        return [f"--config.{field(rng)[0]}={pick(texts, rng)}" for _ in range(pick((1, 1, 2), rng))]

    return make


def edges(rng: np.random.Generator) -> list[str]:
    """Values at the edges of their ranges."""
    return [f"--config.{name}={near(declaration, rng)}" for name, declaration in (field(rng) for _ in range(2))]


def misspelt(rng: np.random.Generator) -> list[str]:
    """A letter of a flag is missing, twice there, another, or has changed places."""
    flag = pick(
        [*SMALL, "--workdir=x", "--dry_run", "--mode=run", *(f"--config.{name}=1" for name in schema.fields())], rng
    )
    place = int(rng.integers(len(flag)))
    before, letter, after = flag[:place], flag[place], flag[place + 1 :]
    return [before + pick(("", letter * 2, pick("abc.=-_: \n", rng), after[:1] + letter), rng) + after]


def sweep(rng: np.random.Generator) -> list[str]:
    """One to three sweeps, of values that may be wrong, of which there may be many."""
    flags = []
    for _ in range(pick((1, 2, 3), rng)):
        name, declaration = field(rng)
        values = [
            near(declaration, rng),
            near(declaration, rng),
            *(str(pick(OTHER_TYPES + HUGE, rng)) for _ in range(2)),
        ]
        many = ",".join(map(str, range(int(pick((2, 30, 3000), rng)))))
        text = pick((",".join(values[:2]), ",".join(values), f"[{','.join(values)}]", "", ",", "[]", "[[]]", many), rng)
        flags.append(f"--config.sweep.{name}={text}")
    return flags


def foreign(rng: np.random.Generator) -> list[str]:
    """Names of things that do not exist, are something else, or misbehave."""
    name, where = pick(FOREIGN, rng), pick(REGISTRIES, rng)
    value = f"('loss','{name}')" if where.endswith("names") and rng.random() < 0.7 else name
    return [pick((f"--config.{where}={value}", f"--config.sweep.{where}={value},{pick(FOREIGN, rng)}"), rng)]


def together(rng: np.random.Generator) -> list[str]:
    """Several values, each of which may be right."""
    numbers = ("0", "1", "2", "3", "7", "60", "61", "240", "300", "1000", "100000", "2000000000")
    names = [name for name, declaration in schema.fields().items() if declaration.kind is int]
    flags = [f"--config.{pick(names, rng)}={pick(numbers, rng)}" for _ in range(3)]
    attacks = list(schema.REGISTRIES["attack.names"].known)
    flags += [
        f"--config.attack.names=('loss','{pick(attacks, rng)}')",
        f"--config.shadow.federations={pick((0, 8, 9), rng)}",
    ]
    flags += [f"--config.attack.views=('{pick(VIEWS, rng)}','{pick(VIEWS, rng)}')"]
    flags += [
        f"--config.data.partition={pick(('iid', 'dirichlet', 'sizes'), rng)}",
        f"--config.data.sizes={pick(('(1,2)', '()', '(1e-300,1)', '(1e300,1e300)'), rng)}",
    ]
    flags += [f"--config.{name}={near(declaration, rng)}" for name, declaration in [field(rng)]]
    return [flag for flag in flags if rng.random() < 0.6]


def command_flags(rng: np.random.Generator) -> list[str]:
    """Flags of the command itself, and words that are none."""
    return (
        pick(FLAGS, rng)
        .format(pick([str(text) for text in (*STRANGE, *OTHER_TYPES, *HUGE, *NOT_FINITE)], rng))
        .split(" ", 1)
    )


KINDS: dict[str, Make] = {
    "edges": edges,
    "types": of_texts(OTHER_TYPES),
    "huge": of_texts(HUGE),
    "not finite": of_texts(NOT_FINITE),
    "nested": of_texts(NESTED),
    "strange": of_texts(STRANGE),
    "misspelt": misspelt,
    "sweep": sweep,
    "foreign": foreign,
    "together": together,
    "command": command_flags,
}
