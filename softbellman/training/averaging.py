"""The mean of the weights of several checkpoints of one stage, as a file that stands where a checkpoint does.

Vaswani et al., "Attention Is All You Need", 2017, section 6.1, average the last checkpoints of a training so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from softbellman.training.checkpoint import Weights, read_weights, save_weights
from softbellman.training.generations import Generations
from softbellman.training.resumption import vocabularies_of
from softbellman.training.runfolder import RunFolder


def checkpoints_of(
    folder: RunFolder, stage: str, *, last: int = 0, numbers: Sequence[int] = ()
) -> list[Path]:
    """Weights of a stage's checkpoints, oldest first.

    Args:
        folder: of the run.
        stage: name of the stage.
        last: the newest so many; 0: all that are kept.
        numbers: these instead, by their numbers.

    Raises:
        ValueError: a checkpoint that is not there, or fewer than asked for; says which there are.
    """
    present = Generations(folder.checkpoints, stage).numbers()
    there = ", ".join(map(str, present)) or "none"
    for number in numbers:
        if number not in present:
            raise ValueError(
                f"{folder.checkpoints} has no checkpoint {number} of stage {stage}; present: {there}"
            )
    if last > len(present) or not present:
        wanted = f"the last {last} are" if last else "one at least is"
        raise ValueError(
            f"{folder.checkpoints} has {len(present)} checkpoints of stage {stage} ({there}), and {wanted} asked for; "
            "checkpoint.keep says how many a run keeps"
        )
    chosen = sorted(set(numbers)) or present[-last:]
    return [folder.checkpoints / f"{stage}-{number:06d}.safetensors" for number in chosen]


def average_weights(folder: RunFolder, stage: str, paths: Sequence[Path], output: Path) -> int:
    """Write the mean of some files of weights, in float64; numbers that are no floating point are those of the last file.

    Args:
        folder: of the run, whose record has the files' digests.
        stage: of all files.
        paths: at least one.
        output: the new file.

    Returns:
        How many tensors were averaged.

    Raises:
        DamagedFile: a file that does not hold what was written.
        ValueError: no file, or files of different networks.
    """
    if not paths:
        raise ValueError("an average needs at least one checkpoint, got none")
    total: Weights = {}
    steps = 0
    for path in paths:
        tensors, metadata = read_weights(path, folder.expected_weights(path))
        steps = max(steps, int(metadata.get("step", 0)))
        if total and {name: t.shape for name, t in tensors.items()} != {
            name: t.shape for name, t in total.items()
        }:
            raise ValueError(f"{path} holds other networks than {paths[0]}")
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                total[name] = tensor
            elif name in total:
                total[name] += tensor.double() / len(paths)
            else:
                total[name] = tensor.double() / len(paths)
    averaged = {name: tensors[name].dtype for name in total if tensors[name].is_floating_point()}
    mean = {name: t.to(averaged.get(name, t.dtype)) for name, t in total.items()}
    save_weights(output, mean, stage=stage, step=steps, origin=vocabularies_of(folder.path))
    return len(averaged)
