"""Records in blocks: how many are compared with references at a time.

Attacks with references learn from all records what they have in common, such as how much means differ, and from each
record the rest. Of very many records that may be learnt from some thousands as well as from all, so that they are
compared block by block, and what the references say is read from where it lies without ever being in memory whole.
"""

import numpy as np
from jaxtyping import Int

MOST_FLOATS = 2**27  # of what references say at a time: 512 MiB of one signal
RUN = 1_024  # neighbours that are read together: a page of a file

Rows = slice | Int[np.ndarray, "B"]


def cut(num_records: int, *, most: int) -> list[Rows]:
    """Cuts records into blocks of equal size, each with records from everywhere.

    Args:
      num_records: M.
      most: records of a block, at least 1; where it is no multiple of `RUN`, blocks stay below it.

    Returns:
      The rows of each block; some records are in two of them, so that all blocks are of one size and one program serves
      them all. All records in one block where they are not more than `most`.
    """
    if num_records <= most:
        return [slice(None)]
    run = min(RUN, most)
    firsts = np.minimum(np.arange(0, num_records, run), num_records - run)
    number = -(-len(firsts) // (most // run))
    dealt = [firsts[block::number] for block in range(number)]
    short = [len(runs) < len(dealt[0]) for runs in dealt]
    filled = [
        np.append(runs, firsts[(block + 1) % number]) if short[block] else runs for block, runs in enumerate(dealt)
    ]
    return [(runs[:, None] + np.arange(run)).reshape(-1) for runs in filled]
