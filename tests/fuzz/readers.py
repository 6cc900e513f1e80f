"""The ways in, each as a command takes it: to the point at which all that can be wrong with an input has been found."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
from seeds import frames, masks

from layerlift.app.refusal import RefusalError

MOST_FRAMES = 20  # that are read of a clip


def model(path: Path) -> None:
    """A model's folder: opened, asked for all that is known of it, planned for a clip, its weights read."""
    from layerlift.clip import Clip
    from layerlift.engine.device import choose_policy
    from layerlift.engine.model import open_model
    from layerlift.masks import Mask
    from layerlift.options import RemovalOptions
    from layerlift.progress import QUIET
    from layerlift.runtime import Runtime
    from layerlift.stages.removal import plan_removal

    opened, policy = open_model(path), choose_policy("cpu")
    opened.scorer("auto")
    prompts = [opened.scoring_prompt()]
    opened.check_prompts(prompts, policy)
    opened.prompts(prompts, policy, False, QUIET)
    plan_removal(Clip.from_array(frames()), Mask.from_array(masks()), RemovalOptions(evidence="off"),
                 Runtime(model=opened, policy=policy))  # fmt: skip
    with opened.transformer(policy), opened.vae_decoder(policy), opened.vae_encoder(policy):
        pass


def single_file(path: Path) -> None:
    """A checkpoint in one file, whose weights are a hole; they are not read."""
    from layerlift.engine.model import open_model

    open_model(path).scorer("auto")


def encoder(path: Path) -> None:
    """A text encoder's folder: checked, and run on a prompt."""
    from layerlift.engine.device import choose_policy
    from layerlift.engine.model import t5

    t5.check_encoder(path, 16)
    t5.encoder_identity(path)
    t5.embed(path, ["Empty"], 8, choose_policy("cpu"))


def cached(path: Path) -> None:
    """An entry of the prompt cache: one that cannot be used is none."""
    from layerlift.engine.model.text import read_cached

    read_cached(path, "Empty", 64)


def published(path: Path) -> None:
    """Embeddings that come with a release."""
    from layerlift.engine.model.published import PublishedText

    found = PublishedText(path)
    found.read(found.prompts)


def picture(path: Path) -> None:
    """A picture as a clip and as a single image."""
    from layerlift.clip.images import read_picture

    read_picture(path)
    video(path)


def video(path: Path) -> None:
    """A clip: opened, and its first frames read."""
    from layerlift.clip import open_clip

    clip = open_clip(path)
    for _ in clip.frames(0, min(clip.frame_count, MOST_FRAMES)):
        pass
    damaged = open_clip(path, allow_damage=True)
    for _ in damaged.rgba_frames(0, min(damaged.frame_count, MOST_FRAMES)):
        pass


def mask(path: Path) -> None:
    """A mask of a clip, and the objects in it."""
    from layerlift.clip import Clip
    from layerlift.masks import open_mask, open_object_masks

    clip = Clip.from_array(frames())
    open_mask(path, clip).numpy()
    open_object_masks(path, clip)


def layer(path: Path) -> None:
    """A layer with alpha."""
    from layerlift.clip.rgba_reader import open_layer

    opened = open_layer(path)
    for _ in islice(opened.frames(), MOST_FRAMES):
        pass


def reference(path: Path) -> None:
    """A cleaned frame."""
    from layerlift.clip import Clip
    from layerlift.evidence.reference import open_references
    from layerlift.masks import Mask

    open_references({0: path}, Clip.from_array(frames()), Mask.from_array(masks()), 2)


def rewritten(path: Path) -> None:
    """A clip whose sound, subtitles, chapters and attachments go into a result."""
    from layerlift.clip import open_clip, write_clip

    clip = open_clip(path)
    count = min(clip.frame_count, MOST_FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        black = np.zeros((count, clip.height, clip.width, 3), np.uint8)
        write_clip(Path(folder) / "out.mkv", black, clip.cut(0, count))


def segmenter(path: Path) -> None:
    """A folder with SAM 2: asked for what a click is on, and to follow a mask into a second frame."""
    from layerlift.clip import Clip
    from layerlift.runtime import Runtime
    from layerlift.stages.segment import Prompts, Target, open_segmenter
    from layerlift.stages.segment.choose import choose_segmenter

    opened = open_segmenter(choose_segmenter(str(path), Runtime()))
    clicked = Prompts(np.array([[16, 24]], np.float32), np.array([True]))
    opened.predict(opened.embed(frames()[0]), clicked)
    # A mask: networks of random numbers find nothing where one clicks.
    for _ in opened.track(Clip.from_array(frames()[:2]), [Target("square", {}, {0: masks()[0]})]):
        pass


def manifest(path: Path) -> None:
    """What a batch runs on; its lines are named."""
    from layerlift.batch.manifest import read_lines
    from layerlift.batch.names import name_lines
    from layerlift.cli.batch_options import options_of_run

    lines, wrong = read_lines(path, options_of_run(), {})
    assert all(len(sentence) < 2000 for sentence in wrong)
    name_lines(lines, [])


def results(path: Path) -> None:
    """A folder that a batch has put results into: what is there of it, and the page that tells it."""
    from layerlift.batch.ledger import Ledger, key_of, unchanged
    from layerlift.batch.page import write_page

    ledger = Ledger(path)
    records = [*ledger.records().values()]
    for record in records:
        key_of(path / record.name)
        unchanged(record.read)
    ledger.write_results()
    write_page(path, records, 0)


def project(path: Path) -> None:
    """A folder with a clip and its project, as `layerlift app` begins with it."""
    from layerlift.app.context import Context
    from layerlift.app.jobs import steps_of
    from layerlift.app.project_routes import described

    context = Context.of(path)
    try:
        context.projects.recent()
        context.projects.took()
        context.jobs.all()
        opened = context.projects.get("toy")
        described(context, opened)
        steps_of(opened, opened.saved.doc, "run", {}, everything=True)
    finally:
        context.close()


def request(path: Path) -> None:
    """What a page sends: a document, clicks, work to be done."""
    import asyncio

    from starlette.requests import Request

    from layerlift.app.answers import body
    from layerlift.app.shapes import NewJob, NewProject, Predict, Save

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": path.read_bytes(), "more_body": False}

    for kind in (Save, Predict, NewProject, NewJob):
        with suppress(RefusalError):
            asyncio.run(body(Request({"type": "http", "headers": []}, receive), kind))


def job(path: Path) -> None:
    """A folder with an interrupted job: listed, taken up, and what lies on its shelf read."""
    from layerlift.jobs.job import Job
    from layerlift.jobs.listing import find_jobs
    from layerlift.jobs.manifest import Manifest

    find_jobs(path)
    taken = Job(path / ".out.mkv.layerlift-job", resume=True)
    taken.settled("memory", 1)
    taken.begin(Manifest("remove", str(path / "out.mkv"), "layerlift remove", {"CLIP": "0"}, {"--seed": "0"}))
    with suppress(OSError), taken.keeper.shelf("frames") as shelf:  # a damaged shelf is one of the disk's errors
        for index in range(len(shelf)):
            shelf.get(index)
    taken.leave()
