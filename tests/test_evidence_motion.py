import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.evidence.motion import Motion, follow
from layerlift.evidence.register import largest_shift
from layerlift.masks import Mask
from layerlift.progress import QUIET

HEIGHT, WIDTH = 96, 144
EXTENT = (0.0, 0.0, WIDTH - 1.0, HEIGHT - 1.0)


def world(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(200, 400, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip(128 + 40 * soft / soft.std(), 0, 255)


def see(ground: np.ndarray, x: float, y: float = 50) -> np.ndarray:
    matrix = np.array([[1, 0, x], [0, 1, y]], float)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.clip(np.rint(cv2.warpAffine(ground, matrix, (WIDTH, HEIGHT), flags=flags)), 0, 255).astype(np.uint8)


def moved(frames: list[np.ndarray], mask: np.ndarray | None = None) -> Motion:
    clip = Clip.from_array(np.stack(frames))
    hidden = np.zeros((len(frames), HEIGHT, WIDTH), bool) if mask is None else mask
    with QUIET.stage("motion", None) as bar:
        return follow(clip, Mask.from_array(hidden), 0, bar)


def test_a_pan_is_followed_without_drift() -> None:
    ground = world()
    motion = moved([see(ground, 40 + 4.3 * t) for t in range(15)])
    assert len(set(motion.shots)) == 1
    matrix = motion.between(0, 14)
    assert matrix is not None
    assert largest_shift(np.linalg.inv([[1, 0, -60.2], [0, 1, 0], [0, 0, 1]]) @ matrix, EXTENT) < 0.3
    assert not motion.still(0)


def test_a_camera_that_stands_still_moves_by_exactly_nothing() -> None:
    rng = np.random.default_rng(1)
    frame = see(world(), 50)
    noisy = [np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    motion = moved(noisy)
    assert all(np.array_equal(pose, np.eye(3)) for pose in motion.poses)
    assert motion.still(3)


def test_what_is_masked_does_not_lead_the_camera() -> None:
    ground, object_ = world(), world(4)
    mask = np.zeros((8, HEIGHT, WIDTH), bool)
    frames = []
    for t in range(8):
        frame = see(ground, 50)
        mask[t, 10:80, 10 + 5 * t : 80 + 5 * t] = True
        frame[mask[t]] = see(object_, 50 - 5 * t)[mask[t]]
        frames.append(frame)
    assert moved(frames, mask).still(0)


def test_cuts_are_found_and_nothing_leads_across() -> None:
    one, other = world(), world(7)
    motion = moved([see(one, 40 + t) for t in range(6)] + [see(other, 90) for _ in range(6)])
    assert motion.shots[:6] == [motion.shots[0]] * 6
    assert motion.shots[6:] == [motion.shots[6]] * 6
    assert motion.shots[0] != motion.shots[6]
    assert motion.between(5, 6) is None
    assert motion.still(8)
    assert not motion.still(2)


def test_a_flash_does_not_end_a_shot() -> None:
    ground = world()
    frames = [see(ground, 40 + t) for t in range(9)]
    frames[3] = np.clip(frames[3].astype(float) * 1.6 + 30, 0, 255).astype(np.uint8)  # over-exposed
    frames[6] = np.full_like(frames[6], 255)  # nothing left of the picture
    motion = moved(frames)
    shots = [motion.shots[i] for i in (0, 1, 2, 3, 4, 5, 7, 8)]
    assert len(set(shots)) == 1


def test_a_picture_without_texture_does_not_move() -> None:
    motion = moved([np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 4)
    assert motion.still(0)
    assert len(set(motion.shots)) == 1


def test_a_fast_pan_is_followed_by_its_features() -> None:
    ground = world()
    motion = moved([see(ground, 40), see(ground, 63)])
    matrix = motion.between(0, 1)
    assert matrix is not None
    assert largest_shift(np.linalg.inv([[1, 0, -23], [0, 1, 0], [0, 0, 1]]) @ matrix, EXTENT) < 0.3


def test_frames_of_a_shot_come_nearest_first() -> None:
    motion = Motion((64, 48), poses=[np.eye(3)] * 6, shots=[1, 1, 1, 1, 2, 1])
    assert motion.shot_of(2, 3) == [1, 3, 0, 5]
    assert motion.shot_of(2, 1) == [1, 3]
