"""The row without lobes, airways and vessels: chests of a network that has them beside one of a CT alone.

Both are models, copies of models/medsyn that runs of the same steps are put into:

    python3 run.py train medsyn --data DATA --out A --low-share 1 --steps 2500 --export joint
    python3 run.py train medsyn --data DATA --out B --low-share 1 --steps 2500 --ct-alone --export alone
    python tests/benchmarks/medsyn_masks.py joint alone A/chests.npz --seeds 32
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from lesionbrush.core.registry import InstalledModel, load_card
from lesionbrush.systems.medsyn.evaluation.without_masks import compare_networks
from lesionbrush.systems.medsyn.model import MedSyn
from lesionbrush.systems.medsyn.pack import read_chests


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("joint", type=Path)
    parser.add_argument("alone", type=Path)
    parser.add_argument("chests", type=Path)
    parser.add_argument("--seeds", type=int, default=32)
    options = parser.parse_args()
    joint, alone = (
        MedSyn.load(InstalledModel(load_card(one), one)) for one in (options.joint, options.alone)
    )
    for line in compare_networks(joint, alone, read_chests(options.chests, validation=False), options.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
