"""What requests and answers hold. Every request's body is checked against one of these, and so is project.json."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Name = Annotated[str, Meta(min_length=1, max_length=80)]
Pixel = Annotated[float, Meta(ge=-65536, le=65536)]
Point = tuple[Pixel, Pixel, bool]
Box = tuple[Pixel, Pixel, Pixel, Pixel]
FrameKey = Annotated[str, Meta(pattern=r"^[0-9]{1,7}$")]
Frame = Annotated[int, Meta(ge=0, le=9_999_999)]
MaskPath = Annotated[str, Meta(pattern=r"^masks/[^/\\.][^/\\]*$", max_length=200)]
Setting = bool | int | float | Annotated[str, Meta(max_length=500)]
Flag = Annotated[str, Meta(pattern=r"^--[a-z][a-z-]*$", max_length=40)]
Kind = Literal["track", "effects", "threshold", "plate", "layers", "composite", "run", "plan", "export", "download"]
State = Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]


class Prompt(Struct, forbid_unknown_fields=True):
    """What is said of one object in one frame: points (x, y, whether the object is there), and a box around it."""

    points: Annotated[list[Point], Meta(max_length=200)] = []
    box: Box | None = None


class Thing(Struct, forbid_unknown_fields=True):
    """An object: its clicks and painted masks by frame, or a mask file for all frames."""

    id: Annotated[int, Meta(ge=1, le=10_000)]
    name: Name
    colour: Annotated[str, Meta(pattern=r"^#[0-9a-fA-F]{6}$")]
    hidden: bool = False
    prompts: Annotated[dict[FrameKey, Prompt], Meta(max_length=1000)] = {}
    masks: Annotated[dict[FrameKey, MaskPath], Meta(max_length=1000)] = {}
    file: MaskPath | None = None


class Effects(Struct, forbid_unknown_fields=True):
    """What is said of effects: painted by frame, the threshold, and the kinds to be found."""

    add: Annotated[dict[FrameKey, MaskPath], Meta(max_length=1000)] = {}
    erase: Annotated[dict[FrameKey, MaskPath], Meta(max_length=1000)] = {}
    threshold: Annotated[float, Meta(gt=0, le=1)] | None = None
    kinds: Annotated[list[Literal["shadow", "reflection", "light", "smoke"]], Meta(max_length=4)] = []


class View(Struct, forbid_unknown_fields=True):
    """Where the user looks."""

    frame: Frame = 0


class Doc(Struct, forbid_unknown_fields=True):
    """What the user says of a clip: all that undo and redo move through."""

    objects: Annotated[list[Thing], Meta(max_length=32)] = []
    effects: Effects = field(default_factory=Effects)
    marks: tuple[Frame, Frame] | None = None
    model: Annotated[str, Meta(max_length=100)] | None = None
    settings: Annotated[dict[Flag, Setting], Meta(max_length=100)] = {}
    view: View = field(default_factory=View)


class Saved(Struct, forbid_unknown_fields=True):
    """project.json."""

    clip: Annotated[str, Meta(min_length=1, max_length=1000)]
    rev: Annotated[int, Meta(ge=0)] = 0
    doc: Doc = field(default_factory=Doc)
    made: dict[str, Any] = {}


class Save(Struct, forbid_unknown_fields=True):
    """A document to be kept, and the revision that it was made from."""

    rev: Annotated[int, Meta(ge=0)]
    doc: Doc


class NewProject(Struct, forbid_unknown_fields=True):
    """The clip, a path below the folder, whose project is opened."""

    clip: Annotated[str, Meta(min_length=1, max_length=1000)]


class Predict(Struct, forbid_unknown_fields=True):
    """Clicks and a box in one frame, in pixels of the clip; `request` is a number that the answer repeats."""

    frame: Frame
    points: Annotated[list[Point], Meta(max_length=200)] = []
    box: Box | None = None
    request: int = 0


class NewJob(Struct, forbid_unknown_fields=True):
    """Work to be done."""

    kind: Kind
    options: Annotated[dict[str, Setting | None], Meta(max_length=20)] = {}


class Facts(Struct):
    """What a clip is. `rate` is a fraction; `stamp` changes when the file does."""

    width: int
    height: int
    frames: int
    rate: tuple[int, int]
    seconds: float
    sound: bool
    codec: str
    bytes: int
    notes: list[str]
    stamp: str


class Project(Struct):
    """A project as it is now."""

    name: str
    clip: str
    rev: int
    doc: Doc
    facts: Facts
    results: dict[str, Any]


class Recent(Struct):
    """A project in the folder; `changed` is in seconds since 1970."""

    name: str
    clip: str
    changed: float
    objects: int


class Model(Struct):
    """A model or a segmenter that can be chosen; `bytes` is what a download takes."""

    name: str
    title: str
    licence: str
    bytes: int
    installed: bool
    default: bool


class OptionEntry(Struct):
    """One flag of the command line."""

    flag: str
    help: str
    kind: Literal["bool", "int", "float", "choice", "text"]
    choices: list[str]
    default: Setting | None
    least: float | None
    most: float | None


class OptionGroup(Struct):
    """Flags under one heading."""

    title: str
    options: list[OptionEntry]


class Preset(Struct):
    """A format that results are saved in."""

    name: str
    title: str
    detail: str
    of: Literal["layers", "plate", "composite", "mask"] = field(name="for")


class Job(Struct):
    """Work that waits, runs, or has ended. `seconds` it ran for, `left` what is left of the stage."""

    id: str
    project: str
    kind: Kind
    state: State = "waiting"
    stage: str = ""
    done: int = 0
    total: int | None = None
    seconds: float = 0.0
    left: float | None = None
    stages: list[str] = []
    message: str = ""
    resumable: bool = False
    made: list[str] = []
    notes: list[str] = []
    command: str = ""
    plan: dict[str, Any] | None = None
