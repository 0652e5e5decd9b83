"""Which setting of each codec is as good as x264's at the same quality, and what it costs.

Run by hand:  python tests/benchmarks/codecs.py CLIP [--frames 60]

The figures of docs/guide/video.md, and the steps in video/codecs.py, come from here.
"""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from faceswap_cli.video.color import get_planes
from faceswap_cli.video.encoder import EncodeSpec, VideoEncoder
from faceswap_cli.video.frame import Frame, SourceSamples
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.segments import SegmentedWriter

QUALITIES = (12, 18, 23, 28, 35)


def measure_quality(
    source: Path, frames: list[Frame], codec: str, quality: int
) -> tuple[float, ...]:
    """Return the luma's PSNR and SSIM, kilobytes a frame and frames a second of one core."""
    info = probe(source)
    spec = EncodeSpec.from_info(info, codec=codec, quality=quality, hardware=False)
    with tempfile.TemporaryDirectory() as folder:
        writer = SegmentedWriter(Path(folder) / "work", spec, key="")
        encoder = VideoEncoder(spec, writer.choice)
        start, size = time.process_time(), 0
        for frame in frames:
            packets = encoder.encode(frame.image, frame.time, original=frame.original)
            size += sum(len(one.data) for one in packets)
        size += sum(len(one.data) for one in encoder.flush())
        spent = time.process_time() - start
        with writer:
            for frame in frames:
                writer.write(frame.image, frame.time, original=frame.original)
        output = Path(folder) / "out.mkv"
        writer.finalize(output)
        errors, ssims = [], []
        for old, new in zip(frames, read_frames(output), strict=True):
            assert isinstance(old.original, SourceSamples)
            assert isinstance(new.original, SourceSamples)
            before, after = (read_luma(one.original) for one in (old, new))
            errors.append(np.mean((before - after) ** 2))
            ssims.append(structural_similarity(before, after, data_range=255))
    psnr = 10 * np.log10(255**2 / max(np.mean(errors), 1e-9))
    return psnr, float(np.mean(ssims)), size / len(frames) / 1000, len(frames) / spent


def read_luma(original: SourceSamples) -> npt.NDArray[np.float64]:
    """Return a frame's luma on the scale of 8 bits, whatever its bit depth."""
    bits = original.decoded.format.components[0].bits
    return np.asarray(get_planes(original.decoded)[0] / 2.0 ** (bits - 8))


def main() -> None:
    """Print one line for every codec and quality."""
    parser = argparse.ArgumentParser()
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    frames = list(islice(read_frames(args.clip), args.frames))
    print("| codec | quality | PSNR dB | SSIM | kB a frame | frames/s of a core |")
    print("|" + " --- |" * 6)
    for codec in ("h264", "h265", "av1", "prores"):
        for quality in QUALITIES:
            psnr, ssim, size, rate = measure_quality(args.clip, frames, codec, quality)
            row = f"| {codec} | {quality} | {psnr:.2f} | {ssim:.4f} | {size:.1f} | {rate:.0f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
