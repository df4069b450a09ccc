"""Bookkeeping of the benchmark of world models, and the picture of a dream."""

import numpy as np
from PIL import Image

from benchmarks.dream_picture import survived, write
from benchmarks.world_models import Folder, table


def test_numbers_are_kept_as_they_come(tmp_path):
    folder = Folder(tmp_path / "new")
    assert not folder.has("random", 0)
    folder.write("random", 0, 40.0)
    folder.write("random", 1, 44.0)
    again = Folder(tmp_path / "new")
    assert again.has("random", 0) and again.has("random", 1) and not again.has("random", 2)
    assert "| random | 42.0 ± 2.0 | 40.0 | 2 |" in table(again.numbers)


def test_steps_are_counted_from_the_beginning_of_an_episode():
    ends = np.array([False, True, False, False, True, False])
    np.testing.assert_array_equal(survived(ends), [0, 1, 0, 1, 2, 0])


def test_a_picture_has_all_frames_side_by_side(tmp_path):
    frames = np.zeros((3, 16, 16))
    frames[:, 15, 4] = 1.0
    frames[np.arange(3), np.arange(3), 9] = 0.5
    ends = np.zeros(3, bool)
    write([("real game", frames, ends), ("dream", 0.0 * frames, ends)], tmp_path / "dream.gif", 100)
    with Image.open(tmp_path / "dream.gif") as picture:
        assert picture.n_frames == 3
        for i in range(3):
            picture.seek(i)
            pixels = np.asarray(picture.convert("RGB"))
            found = pixels[16:, : 16 * 9].reshape(16, 9, 16, 9, 3)[:, 4, :, 4]
            assert tuple(found[15, 4]) == (90, 220, 120) and tuple(found[i, 9]) == (255, 120, 30)
            assert (pixels[16:, -16 * 9 :] == (20, 20, 40)).all()
