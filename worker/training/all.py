"""Rebuilds the tiny model from nothing: `python -m training.all [--work FOLDER] [--out FOLDER] [STAGE ...]`.

Run it in `worker/`. Stages default to all, in this order: decoder, encoder, denoiser, export, card. Decoder, encoder
and denoiser need nothing of each other and may run at the same time in processes of their own.
"""

import argparse
import logging
import time
from pathlib import Path

from training import autoencoder, card, dataset, denoiser, evaluate, export, optimise, tokenizer
from training.optimise import Plan
from training.scene import split
from training.settings import MODEL_FOLDER, SEED, WORK_FOLDER

log = logging.getLogger("training")

HELD_OUT_PICTURES = 200


def plans(work: Path) -> dict[str, Plan]:
    """How each learning stage learns."""
    return {
        "decoder": Plan(steps=1600, rate=1.5e-3, checkpoint=work / "decoder.pt", seed=SEED + 1),
        "encoder": Plan(steps=400, rate=2e-3, checkpoint=work / "encoder.pt", seed=SEED + 2),
        "denoiser": Plan(steps=6500, rate=1.5e-3, checkpoint=work / "denoiser.pt", seed=SEED + 3, average=0.999),
    }


def learn(stage: str, work: Path) -> None:
    """Runs one learning stage; its weights end in `work`."""
    plan = plans(work)[stage]
    optimise.prepare(plan.seed)
    pool = dataset.load_or_build(work)
    training, _ = split()
    if stage == "decoder":
        autoencoder.train_decoder(autoencoder.create().decoder, pool, training, plan)
    elif stage == "encoder":
        autoencoder.train_encoder(autoencoder.create().encoder, pool, training, plan)
    elif stage == "denoiser":
        words = tokenizer.create()
        denoiser.train(denoiser.Denoiser(words), words, pool, training, plan)


LEARNING = ("decoder", "encoder", "denoiser")
STAGES = (*LEARNING, "export", "card")


def run(stage: str, work: Path, out: Path) -> None:
    """Runs one stage, from what earlier ones left in `work`."""
    if stage in LEARNING:
        learn(stage, work)
    elif stage == "export":
        export.export(work, out)
    else:
        figures = evaluate.evaluate(out, HELD_OUT_PICTURES, evaluate.defaults(out))
        card.write(out, figures)


def main() -> None:
    """Runs the stages named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--work", type=Path, default=WORK_FOLDER)
    parser.add_argument("--out", type=Path, default=MODEL_FOLDER)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.work.mkdir(parents=True, exist_ok=True)
    for stage in arguments.stages or STAGES:
        started = time.process_time()
        run(stage, arguments.work, arguments.out)
        log.info("%s took %.0f CPU seconds", stage, time.process_time() - started)


if __name__ == "__main__":
    main()
