"""Bad input, found before the first photo is read: each check raises one SettingError and changes nothing."""

import os

import onnxruntime

from verger.errors import RunFailedError, SettingError
from verger.network import CUDA, Backbone, count_gpus
from verger.projection import Projection
from verger.settings import Settings
from verger.storage import Place, path_within
from verger.vectors import EmbedResult

PROJECTION = "model/projection.npz"


def check_places(source: Place, dest: Place) -> None:
    """SOURCE may hold DEST, but not the other way round; DEST can be written."""
    if path_within(dest, source) is not None:
        raise SettingError(
            "a DEST that does not hold SOURCE", f"SOURCE {source.uri} inside DEST {dest.uri}", "Choose another --to."
        )
    try:
        dest.check_writable()
    except OSError as error:
        raise SettingError("a DEST that can be written", f"{dest.uri}: {error}", "Choose another --to.") from error


def check_device(settings: Settings) -> None:
    """A GPU must be there where the network is to run; on a cluster, only its workers can tell."""
    elsewhere = "PYSPARK_GATEWAY_PORT" in os.environ or not (settings.master or "local").startswith("local")
    if settings.device == "cpu" or elsewhere:
        return
    if CUDA not in (offered := onnxruntime.get_available_providers()):
        raise SettingError(
            "ONNX Runtime with CUDA, for --device cuda",
            f"one that offers {', '.join(offered)}",
            "Install it: pip uninstall onnxruntime; pip install 'verger[gpu]'. Or leave --device out.",
        )
    if not count_gpus():
        advice = "Check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or leave --device out."
        raise SettingError("an NVIDIA GPU, for --device cuda", "none that this process may use", advice)


def check_components(settings: Settings, backbone: Backbone, photos: int) -> None:
    """A number of components must fit the vectors' length and the number of photos."""
    if settings.keep_projection or isinstance(settings.components, float):
        return
    for most, of_what in ((backbone.vector_length, "the vector length"), (photos, "the number of photos")):
        if settings.components > most:
            raise SettingError(
                f"`components` between 1 and {of_what} ({most})",
                f"components={settings.components}",
                f"Lower --components to {most} or less, or give a share of variance such as 0.90.",
            )


def read_kept_projection(dest: Place, backbone: Backbone) -> Projection:
    """The projection that an earlier run saved in DEST, made for the same network."""
    try:
        projection = Projection.from_bytes(dest.read(PROJECTION))
    except FileNotFoundError as error:
        raise SettingError(
            f"a projection in {dest.uri}/{PROJECTION}, as --keep-projection asks",
            "none",
            "Run once without --keep-projection.",
        ) from error
    if projection.fingerprint != backbone.fingerprint:
        raise SettingError(
            f"a projection made for this network (fingerprint {backbone.fingerprint})",
            f"one for fingerprint {projection.fingerprint}",
            "Run without --keep-projection to fit a new one.",
        )
    return projection


def check_failures(result: EmbedResult, found: int, max_failed: float, dest: Place) -> None:
    """Too many failed photos end the run, after everything it has was written.

    Raises:
        RunFailedError: more than the share `max_failed` of the photos found have failed, or all of them.
    """
    failed = len(result.failures)
    if failed > max_failed * found or failed == found:
        counts = ", ".join(f"{count} {cause}" for cause, count in result.causes.most_common())
        example = result.failures[0][0]
        raise RunFailedError(
            f"at most {max_failed:.1%} of the photos to fail (--max-failed {max_failed}), and never all",
            f"{failed} of {found} failed ({counts}; for instance {example})",
            f"Mend or remove them, or raise --max-failed, and run again: the {found - failed} vectors "
            f"in {dest.uri} are kept.",
        )
