"""Rebuilds the tiny model from nothing: `python -m training.all [--work FOLDER] [--out FOLDER] [STAGE ...]`.

Run it in `worker/`. Stages default to all, as the shipped weights were made: text, decoder, sharpen, finish, encoder,
denoiser, polish, refine, settle, export, card. The decoder's three follow one another, and so do text, denoiser,
polish, refine and settle; these two lines and the encoder need nothing of each other and may learn at the same time.
"""

import argparse
import logging
import time
from pathlib import Path

from training import autoencoder, card, dataset, denoiser, evaluate, export, optimise, text, tokenizer
from training.optimise import Plan
from training.scene import split
from training.settings import MODEL_FOLDER, SEED, WORK_FOLDER

log = logging.getLogger("training")

HELD_OUT_PICTURES = 200


def plans(work: Path) -> dict[str, Plan]:
    """How each learning stage learns."""
    decoder, sharp, denoised = work / "decoder.pt", work / "sharp.pt", work / "denoiser.pt"
    polished, refined = work / "polished.pt", work / "refined.pt"
    return {
        "text": Plan(steps=600, rate=3e-3, checkpoint=work / "text.pt", seed=SEED + 4, average=0.98),
        "decoder": Plan(steps=1600, rate=1.5e-3, checkpoint=decoder, seed=SEED + 1),
        "sharpen": Plan(steps=1500, rate=1e-3, checkpoint=sharp, seed=SEED + 5, start=decoder),
        "finish": Plan(steps=1200, rate=1.5e-3, checkpoint=work / "finished.pt", seed=SEED + 6, start=sharp),
        "encoder": Plan(steps=400, rate=2e-3, checkpoint=work / "encoder.pt", seed=SEED + 2),
        "denoiser": Plan(steps=3000, rate=2e-3, checkpoint=denoised, seed=SEED + 3, average=0.999),
        "polish": Plan(steps=1700, rate=1.2e-3, checkpoint=polished, seed=SEED + 7, start=denoised, average=0.998),
        "refine": Plan(steps=1200, rate=6e-4, checkpoint=refined, seed=SEED + 8, start=polished, average=0.998),
        "settle": Plan(
            steps=2400, rate=6e-4, checkpoint=work / "settled.pt", seed=SEED + 9, start=refined, average=0.999
        ),
    }


def learn(stage: str, work: Path) -> None:
    """Runs one learning stage; its weights end in `work`."""
    plan = plans(work)[stage]
    optimise.prepare(plan.seed)
    training, _ = split()
    words = tokenizer.create()
    if stage == "text":
        text.train(text.Reader(words), words, training, plan)
        return
    pool = dataset.load_or_build(work)
    if stage == "decoder":
        autoencoder.train_decoder(autoencoder.create().decoder, pool, training, plan)
    elif stage in ("sharpen", "finish"):
        autoencoder.sharpen_decoder(optimise.begin(autoencoder.create().decoder, plan), pool, training, plan)
    elif stage == "encoder":
        autoencoder.train_encoder(autoencoder.create().encoder, pool, training, plan)
    else:
        reader = optimise.load(text.Reader(words), work / "text.pt")
        model = optimise.begin(denoiser.Denoiser(reader.encoder), plan)
        denoiser.train(model, words, pool, training, plan)


LEARNING = ("text", "decoder", "sharpen", "finish", "encoder", "denoiser", "polish", "refine", "settle")
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
