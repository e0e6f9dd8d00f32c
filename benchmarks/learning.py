"""Does each detector learn? Trained against untrained on real parts, with the settings of ``conf/base``, several seeds.

Run with ``python benchmarks/learning.py --root <folder of a dataset> --detectors simplenet msflow``. A part of the
training and test images is taken, drawn with a fixed seed; supervised detectors also get some of the bad images, which
then are in no test. One line per detector and seed is printed, and in the end the mean over the seeds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PROJECT = Path(__file__).resolve().parents[1]
# What a detector keeps of its training images without learning from them: with it, it can score before it has learned.
REFERENCES = {"dra": ("model.reference_pool", "model.mean", "model.std")}


def settings(changes: Path | None = None) -> dict[str, Any]:
    """Parameters of the environment ``base``, without anybody's own, and some changes to them from a YAML file."""
    from omegaconf import OmegaConf

    from shopfloor.config import ProjectConfigLoader

    base = ProjectConfigLoader(str(PROJECT / "conf"), env="base", base_env="base")["parameters"]
    merged: Any = OmegaConf.to_container(OmegaConf.merge(base, OmegaConf.load(changes) if changes else {}))
    return merged


def parts(root: Path, size: int, counts: argparse.Namespace) -> dict[str, Any]:
    """Training part, training part with labelled bad images, test part, and masks of the test part."""
    from shopfloor.catalog.image_stack import ImagePart
    from shopfloor.readers import list_categories, read_index
    from shopfloor.readers.index_table import split_paths
    from shopfloor.readers.pixels import read_image, read_mask, resize_mask

    category = next(iter(list_categories("folder", root)))
    index, _ = read_index("folder", root, root.name, category)
    rng = np.random.default_rng(0)

    def some(split: str, label: str, count: int) -> pd.DataFrame:
        found = index[(index["split"] == split) & (index["label"] == label)]
        return found.iloc[rng.permutation(len(found))[:count]]  # unsorted: any part of it is of all kinds of defects

    bad = some("test", "bad", counts.test + counts.bad)
    labelled, tested = bad.iloc[: counts.bad], bad.iloc[counts.bad :]
    together = pd.concat([some("train", "good", counts.train), labelled, some("test", "good", counts.test), tested])
    together = together.assign(row=range(len(together)))
    stack = np.stack([read_image(root / image, size) for image in together["image"]])
    masks = np.stack([_mask(root, row, size, split_paths, read_mask, resize_mask) for row in together.itertuples()])
    n_train = int((together["split"] == "train").sum())
    good, supervised = together.iloc[:n_train], together.iloc[: n_train + len(labelled)]
    test = together.iloc[n_train + len(labelled) :]
    return {
        "one_class": ImagePart(stack, good),
        "unsupervised": ImagePart(stack, good),
        "supervised": ImagePart(stack, supervised),
        "test": ImagePart(stack, test),
        "masks": ImagePart(masks, test),
    }


def _mask(root: Path, row: Any, size: int, split_paths: Any, read_mask: Any, resize_mask: Any) -> np.ndarray:
    if not row.masks:
        return np.zeros((size, size), np.uint8)
    return resize_mask(read_mask([root / path for path in split_paths(row.masks)], (row.height, row.width)), size)


def measure(checkpoint: dict[str, Any], data: dict[str, Any]) -> dict[str, float]:
    """Image AUROC, PG2 and, where there are maps, pixel AUPRO, in percent."""
    from shopfloor.detectors.predict import predict
    from shopfloor.metrics import image_metrics
    from shopfloor.metrics.pixel import pixel_metrics

    scores, maps, _ = predict(checkpoint, data["test"], batch_size=8)
    values = image_metrics(scores["pred_score"].to_numpy(), data["test"].is_bad)
    found = {"image_auroc": 100 * values["image_auroc"], "image_pg2": 100 * values["image_pg2"]}
    if maps is not None:
        found["pixel_aupro"] = 100 * pixel_metrics(maps, list(data["masks"]))["pixel_aupro"]
    return found


def measure_untrained(
    name: str, checkpoint: dict[str, Any], given: dict[str, Any], seed: int, data: dict[str, Any]
) -> dict[str, float]:
    """As :func:`measure`, of the detector as it is built; nothing for one that cannot score before it is trained."""
    import lightning.pytorch as pl

    from shopfloor.detectors.backbones import use_networks
    from shopfloor.detectors.building import DetectorError, build

    pl.seed_everything(seed, workers=True, verbose=False)
    with use_networks(given):
        module = build(**{key: value for key, value in checkpoint.items() if key != "state_dict"})
    kept = {key: checkpoint["state_dict"][key] for key in REFERENCES.get(name, ())}
    try:
        return measure({**checkpoint, "state_dict": {**module.state_dict(), **kept}}, data)
    except (DetectorError, ValueError):  # an empty memory bank, a classifier without coefficients
        return {}


def trials(name: str, parameters: dict[str, Any], data: dict[str, Any], options: argparse.Namespace) -> pd.DataFrame:
    """Trained and untrained values of a detector for every seed."""
    from shopfloor.detectors.backbones import read_weights
    from shopfloor.detectors.fit import TrainingExtras, fit
    from shopfloor.detectors.textures import stack_textures
    from shopfloor.planning.settings import BackboneSettings, DetectorSettings

    entry = dict(parameters["detectors"][name])
    if options.epochs:
        entry["trainer"] = {**entry["trainer"], "max_epochs": options.epochs}
    detector = DetectorSettings.model_validate(entry)
    networks = {role: BackboneSettings.model_validate(parameters["backbones"][network])
                for role, network in detector.named_networks.items()}  # fmt: skip
    given = {network: read_weights(network, networks[role]) for role, network in detector.named_networks.items()}
    crop = detector.crop_textures
    extras = TrainingExtras(
        encoder_weights=given.get(detector.encoder or ""),
        textures=stack_textures(options.textures, options.size, crop=crop) if detector.textures else None,
    )
    lines = []
    for seed in options.seeds:
        start = time.perf_counter()
        checkpoint, record = fit(
            data[detector.learning_type], detector, networks.get("backbone"), given.get(detector.backbone or ""),
            options.size, seed, extras=extras,
        )  # fmt: skip
        line = {"detector": name, "seed": seed, "epochs": record["epochs"], **measure(checkpoint, data)}
        untrained = measure_untrained(name, checkpoint, given, seed, data)
        line |= {f"untrained_{key}": value for key, value in untrained.items()}
        lines.append({**line, "seconds": time.perf_counter() - start})
        print(pd.DataFrame([lines[-1]]).round(1).to_string(index=False), flush=True)
    return pd.DataFrame(lines)


def main() -> pd.DataFrame:
    """Trains, prints and gives back one line per detector and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--detectors", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3341, 1954, 1087])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--epochs", type=int, help="instead of those of conf/base")
    parser.add_argument("--train", type=int, default=200, help="good training images")
    parser.add_argument("--test", type=int, default=100, help="test images, of each label")
    parser.add_argument("--bad", type=int, default=20, help="labelled bad training images of supervised detectors")
    parser.add_argument("--changes", type=Path, help="YAML file that changes parameters, e.g. another backbone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    parameters, data = settings(options.changes), parts(options.root, options.size, options)
    table = pd.concat([trials(name, parameters, data, options) for name in options.detectors])
    values = [column for column in table if "image_" in str(column) or "pixel_" in str(column)]
    print("\nMean over the seeds, and standard deviation:")
    groups = table.groupby("detector", sort=False)
    print(groups[[*values, "seconds"]].agg(["mean", "std"]).round(1).to_string())
    return table


if __name__ == "__main__":
    main()
