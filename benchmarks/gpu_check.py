"""Fit every detector and predict with it on a GPU, compare its scores with a CPU's, run a small grid through Dask.

Run with ``benchmarks/gpu_check.sh``, from a checkout: the project need not be installed, what it uses must be. Weights
and images are random, so only times, memory and the agreement of the devices mean something. The exit code is 1 if a
detector fails, if its scores on the two devices differ by more than 1e-3 of the largest, or if the grid fails.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}
LARGEST_DIFFERENCE = 1e-3
#: Modules by the package that brings them, where the names differ.
MODULES = {
    "huggingface-hub": "huggingface_hub", "kedro-datasets": "kedro_datasets", "opencv-python-headless": "cv2",
    "pillow": "PIL", "scikit-learn": "sklearn", "typing-extensions": "typing_extensions",
    "vl-convert-python": "vl_convert",
}  # fmt: skip

#: What a run does not import: kedro-viz shows pipelines, dask-jobqueue asks batch systems for workers.
NOT_NEEDED = ("kedro-viz", "dask-jobqueue")


def check_packages(with_dask: bool) -> None:
    """Tell which packages are missing, and which have another version than the project asks for.

    Args:
        with_dask: Whether Dask is among what is needed.

    Raises:
        SystemExit: One is missing or cannot be imported.
    """
    from packaging.requirements import Requirement

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    of_cluster = project["optional-dependencies"]["cluster"] if with_dask else []
    missing = []
    for line in [*project["dependencies"], *of_cluster]:
        requirement = Requirement(line)
        if requirement.name in NOT_NEEDED:
            continue
        try:
            importlib.import_module(MODULES.get(requirement.name, requirement.name))
        except (ImportError, OSError, RuntimeError) as error:
            missing.append(f"{requirement.name}: {str(error).splitlines()[0]}. The project asks for {line}.")
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            continue  # imported from a folder
        if not requirement.specifier.contains(version, prereleases=True):
            print(f"{requirement.name} is {version}, the project asks for {requirement.specifier}: tried all the same")
    if missing:
        sys.exit("What this check needs is missing:\n" + "\n".join(missing))


def parameters(env: str) -> dict[str, Any]:
    """Parameters of an environment, without anybody's own."""
    from shopfloor.config import ProjectConfigLoader
    from shopfloor.settings import CONFIG_LOADER_ARGS

    found: dict[str, Any] = ProjectConfigLoader(str(PROJECT / "conf"), env=env, **CONFIG_LOADER_ARGS)["parameters"]
    return found


def parts(size: int, n_images: int) -> tuple[Any, Any]:
    """Training and test part of random images, half of each labelled bad; detectors that learn from good get those."""
    import numpy as np
    import pandas as pd

    from shopfloor.catalog.image_stack import ImagePart

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2 * n_images, 8, 8, 3), dtype=np.uint8)
    pixels = coarse.repeat(size // 8, axis=1).repeat(size // 8, axis=2)  # patches: noise alone is no image
    pixels = (0.7 * pixels + 0.3 * rng.integers(0, 256, pixels.shape)).astype(np.uint8)
    label = ["good", "bad"] * n_images
    table = pd.DataFrame({"row": range(2 * n_images), "image": [f"{row}.png" for row in range(2 * n_images)]})
    table = table.assign(label=label, defect_type=label, domain="")
    return ImagePart(pixels, table), ImagePart(pixels, table.iloc[: min(n_images, 16)])


def fit_one(entry: dict[str, Any], networks: dict[str, Any], train: Any, trainer: dict[str, Any]) -> Any:
    """Checkpoint and record of a training with random weights."""
    import numpy as np

    from shopfloor.catalog.image_stack import ImagePart
    from shopfloor.detectors.backbones import read_weights
    from shopfloor.detectors.fit import TrainingExtras, fit
    from shopfloor.planning.settings import BackboneSettings, DetectorSettings

    size = train.stack.shape[1]
    size_of_batch = {} if "balance" in entry else {"batch_size": min(entry["batch_size"], int((~train.is_bad).sum()))}
    changes = {"foreground": "none", "trainer": {"max_epochs": 1, **trainer}, **size_of_batch}
    detector = DetectorSettings.model_validate({**entry, **changes})
    read = {
        role: BackboneSettings.model_validate({**networks[name], "weights": "random"})
        for role, name in detector.named_networks.items()
    }
    given = {name: read_weights(name, read[role]) for role, name in detector.named_networks.items()}
    textures = np.random.default_rng(1).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    extras = TrainingExtras(
        encoder_weights=given.get(detector.encoder or ""),
        textures=textures if detector.textures else None,
        network_weights={name: given[name] for name in detector.networks},
    )
    part = train if detector.learning_type == "supervised" else ImagePart(train.stack, train.table[~train.is_bad])
    weights = given.get(detector.backbone or "")
    return fit(part, detector, read.get("backbone"), weights, size, seed=0, extras=extras)


def check_detectors(options: argparse.Namespace, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """One line per detector and precision, and what failed; checkpoints of fp32 are kept in the folder."""
    import numpy as np
    import torch

    from shopfloor.detectors.predict import predict

    torch.backends.cudnn.allow_tf32 = False  # its ten bits of mantissa would be most of the difference to a CPU
    settings = parameters(options.env)
    train, test = parts(options.size, options.images)
    lines, failures = [], []
    for name, entry in settings["detectors"].items():
        if options.detectors and name not in options.detectors:
            continue
        for precision in options.precisions:
            start = time.perf_counter()
            try:
                arguments = {"accelerator": options.device, "precision": PRECISIONS[precision]}
                arguments["limit_train_batches"] = options.batches
                checkpoint, record = fit_one(entry, settings["backbones"], train, arguments)
                scores, _, predicted = predict(checkpoint, test, batch_size=min(8, entry["batch_size"]))
            except Exception as error:  # one detector that fails hides no other
                failures.append(f"{name}, {precision}: {type(error).__name__}: {str(error).splitlines()[0]}")
                continue
            peak = record["peak_gpu_memory_mb"] or record["peak_memory_mb"]
            lines.append(
                {
                    "detector": name,
                    "precision": precision,
                    "fit s": record["fit_seconds"],
                    "ms/image": predicted["predict_ms_per_image"],
                    "peak MB": peak,
                    "device": predicted["device"],
                    "all s": time.perf_counter() - start,
                }
            )
            print(f"{name:22s}{precision:6s}{lines[-1]['all s']:6.1f} s on {predicted['device']}", flush=True)
            if precision == "fp32":
                torch.save(checkpoint, folder / f"{name}.ckpt")
                np.save(folder / f"{name}.npy", scores["pred_score"].to_numpy())
    return lines, failures


def compare_with_cpu(options: argparse.Namespace, folder: Path) -> None:
    """Write the scores that a CPU gives for every checkpoint of the folder; runs in a process that sees no GPU."""
    import numpy as np
    import torch

    from shopfloor.detectors.predict import predict

    _, test = parts(options.size, options.images)
    for file in sorted(folder.glob("*.ckpt")):
        checkpoint = torch.load(file, weights_only=True, map_location="cpu")
        scores, _, _ = predict(checkpoint, test, batch_size=8)
        np.save(folder / f"{file.stem}_cpu.npy", scores["pred_score"].to_numpy())


def run_grid(device: str, folder: Path) -> str:
    """Run a small grid through DaskRunner, on a worker with a GPU where there is one; what failed, or nothing."""
    import shutil

    for name in ("pyproject.toml", "conf", "reference"):
        place = PROJECT / name
        ignored = shutil.ignore_patterns("local")
        shutil.copytree(place, folder / name, ignore=ignored) if place.is_dir() else shutil.copy(place, folder)
    for name in ("conf/local", "src"):
        (folder / name).mkdir()
    # The demo's weights are in an extra; random ones serve.
    weights = "backbones: {tf_efficientnet_lite0: {weights: random}}\n"
    (folder / "conf/local/parameters.yml").write_text(weights)
    workers = "gpus=1" if device == "cuda" else "workers=1"
    command = [
        *(sys.executable, "-W", "ignore", "-m", "kedro", "run", "--env=test", "--pipelines=model_evaluation"),
        *("--runner=shopfloor.runners.DaskRunner", f"--runner-params={workers}"),
        "--params=only.datasets=machined_parts,only.detectors=padim",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"the grid ended with exit code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
    metrics = folder / "data/08_reporting/model_evaluation/metrics.csv"
    return "" if "image_auroc" in metrics.read_text(encoding="utf-8") else "the grid made no table of metrics"


def main() -> int:
    """Check, print the table, give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--env", default="paper", help="whose detectors are taken: paper (default), base or test")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels, a multiple of 64")
    parser.add_argument("--images", type=int, default=16, help="training images, of each label")
    parser.add_argument("--detectors", nargs="+", help="some of them; all if not given")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batches", type=int, default=2, help="batches of a training")
    parser.add_argument("--no-grid", action="store_true", help="leave the grid through Dask out")
    parser.add_argument("--scores-of", type=Path, help=argparse.SUPPRESS)  # the process that sees no GPU
    options = parser.parse_args()
    if options.scores_of:
        compare_with_cpu(options, options.scores_of)
        return 0
    check_packages(with_dask=not options.no_grid)

    import numpy as np
    import pandas as pd
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU here. Without one: --device cpu --env test --size 64")
        return 1
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines, failures = check_detectors(options, folder)
        command = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--scores-of", name]
        subprocess.run(command, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
        for line in (line for line in lines if line["precision"] == "fp32"):
            of_device, of_cpu = (np.load(folder / f"{line['detector']}{end}.npy") for end in ("", "_cpu"))
            line["CPU differs by"] = np.abs(of_device - of_cpu).max() / max(np.abs(of_cpu).max(), 1e-12)
            if not line["CPU differs by"] <= LARGEST_DIFFERENCE:
                failures.append(f"{line['detector']}: the CPU's scores differ by {line['CPU differs by']:.1e}")
    if not options.no_grid:
        with tempfile.TemporaryDirectory() as name:
            fault = run_grid(options.device, Path(name))
        print(f"grid through DaskRunner: {fault or 'passed'}")
        failures += ["the grid"] if fault else []
    pd.set_option("display.width", 200)
    print(pd.DataFrame(lines).to_string(index=False, float_format="{:.3g}".format))
    print(f"{options.size} pixels, torch {torch.__version__}, {time.perf_counter() - start:.0f} s in all")
    print("\n".join(f"FAILED {failure}" for failure in failures) or "all passed")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
