"""Files with random bytes changed give sound or a MediaError, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from riverrun.media import Chunk, MediaError, Writer, open_media, write
from tests.media.test_files import film, sound


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a", "opus", "mka", "mp4"])
def test_mutated_files_never_break_the_reader(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    if suffix == "mp4":
        film(source, frames=8)
    else:
        write(source, sound(6_000), 16_000)
    whole, rng = source.read_bytes(), np.random.default_rng(5)
    outcomes = set()
    for i in range(13):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 40) if i else 0):
            data[at] = rng.integers(256)
        source.write_bytes(data[: rng.integers(1, len(data) + 1)] if i and rng.random() < 0.3 else data)
        target.unlink(missing_ok=True)
        try:
            with open_media(source) as reader, Writer(target, like=reader) as writer:
                for item in reader.items():
                    assert not isinstance(item, Chunk) or np.isfinite(item.data).all()
                    writer.put(item)
            outcomes.add("result")
            assert target.exists()
        except MediaError as error:
            outcomes.add("error")
            assert str(error) and not target.exists()
    assert len(list(tmp_path.iterdir())) <= 2
    assert "result" in outcomes, "the first was whole"
