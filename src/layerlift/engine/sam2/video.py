"""A video through SAM 2's memory, frame by frame. Only what the memory can still ask for is kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from layerlift.engine.sam2 import side_of
from layerlift.engine.sam2.checks import fitting

if TYPE_CHECKING:
    from layerlift.engine.sam2 import Sam2


class Following:
    """Objects of a video, by their numbers from 0: what is said of them, and where they are in the next frame.

    A session of transformers keeps every frame, and every frame's features and masks; here it keeps as many as the
    network looks back on, and those that something was said of.
    """

    def __init__(self, sam: Sam2, model: Any, size: tuple[int, int], count: int) -> None:
        import transformers

        class Session(getattr(transformers, sam.family.session)):  # type: ignore[misc]  # chosen at run time
            """Of a video whose frames are dropped again: it is as long as it is all the same."""

            @property
            def num_frames(self) -> int:
                return count

        self._sam, self._model, self._size = sam, model, size
        # All on one device: the session's copies between devices do not wait, which corrupts them on MPS.
        self._session = Session(
            video=None, video_height=size[1], video_width=size[0], inference_device=sam.device,
            inference_state_device=sam.device, video_storage_device=sam.device, dtype=torch.float32,
        )  # fmt: skip
        self._reach = max(model.config.num_maskmem, model.config.max_object_pointers_in_encoder)

    def say(self, number: int, index: int, points: np.ndarray, labels: np.ndarray) -> None:
        """Points (N, 2) float32 in pixels of the frame, and what each is (N,), for an object in frame `index`."""
        coordinates = self._sam.as_points(points, self._size, self._model)[None, None]
        kinds = torch.from_numpy(labels.astype(np.int32))[None, None]
        place = self._session.obj_id_to_idx(number)
        self._session.add_point_inputs(place, index, {"point_coords": coordinates, "point_labels": kinds})
        self._session.obj_with_new_inputs = [*self._session.obj_with_new_inputs, number]

    def show(self, number: int, index: int, mask: np.ndarray) -> None:
        """A known mask (H, W) bool of an object in frame `index`."""
        side = side_of(self._model)
        given = torch.from_numpy(mask)[None, None].float().to(self._sam.device)
        scaled = torch.nn.functional.interpolate(given, (side, side), mode="bilinear", antialias=True)
        self._session.add_mask_inputs(self._session.obj_id_to_idx(number), index, (scaled >= 0.5).float())
        self._session.obj_with_new_inputs = [*self._session.obj_with_new_inputs, number]

    @torch.inference_mode()
    def step(self, index: int, frame: np.ndarray, *, reverse: bool = False) -> tuple[list[int], np.ndarray]:
        """The numbers of the objects known by now, and their masks in frame `index`, (n, h, w) float32, inside above 0.

        `frame` is (H, W, 3) uint8; `reverse` says that the video is gone through backwards. What was said of the frame
        has been said before.
        """
        session = self._session
        with fitting(self._sam.folder):
            session.add_new_frame(self._sam.as_input(frame, self._model), index)
            made = self._model(session, frame_idx=index, reverse=reverse)
        masks = made.pred_masks[:, 0].float().cpu().numpy()
        session.processed_frames.clear()
        self._forget(index)
        return list(made.object_ids), masks

    def settle(self, number: int, index: int) -> None:
        """Remember for good what was found of an object in frame `index`."""
        outputs = self._session.output_dict_per_obj[self._session.obj_id_to_idx(number)]
        if index in outputs["non_cond_frame_outputs"]:
            outputs["cond_frame_outputs"][index] = outputs["non_cond_frame_outputs"].pop(index)

    def turn(self) -> None:
        """Begin at another frame: what was found in frames that nothing was said of is forgotten."""
        for place, outputs in self._session.output_dict_per_obj.items():
            outputs["non_cond_frame_outputs"].clear()
            self._session.frames_tracked_per_obj[place].clear()

    def state(self) -> list[np.ndarray]:
        """All that is remembered, as arrays, for `restore`."""
        arrays: list[np.ndarray] = []

        def kept(value: Any) -> Any:
            """What JSON has instead of a tensor: its number among the arrays, and its type."""
            if not isinstance(value, torch.Tensor):
                return [kept(part) for part in value] if isinstance(value, list | tuple) else value
            whole = value.detach().cpu().contiguous()
            # numpy has no bfloat16.
            arrays.append((whole.view(torch.int16) if whole.dtype == torch.bfloat16 else whole).numpy())
            return {"array": len(arrays) - 1, "type": str(whole.dtype).removeprefix("torch.")}

        told = [
            {
                "number": self._session.obj_idx_to_id(place),
                "tracked": [*self._session.frames_tracked_per_obj[place].items()],
                **{
                    kind: [
                        [index, {name: kept(value) for name, value in out.items()}] for index, out in outputs.items()
                    ]
                    for kind, outputs in self._session.output_dict_per_obj[place].items()
                },
            }
            for place in range(self._session.get_obj_num())
        ]
        return [np.frombuffer(json.dumps(told).encode(), np.uint8), *arrays]

    def restore(self, state: list[np.ndarray]) -> None:
        """Go on where another one had this `state`; nothing was said to this one yet."""
        told, *arrays = state
        device = self._sam.device

        def made(value: Any) -> Any:
            if isinstance(value, dict):
                whole = torch.from_numpy(arrays[value["array"]])
                return (whole.view(torch.bfloat16) if value["type"] == "bfloat16" else whole).to(device)
            return [made(part) for part in value] if isinstance(value, list) else value

        for own in json.loads(told.tobytes()):
            place = self._session.obj_id_to_idx(own["number"])
            self._session.frames_tracked_per_obj[place] = dict(own["tracked"])
            for kind, outputs in self._session.output_dict_per_obj[place].items():
                outputs |= {index: {name: made(value) for name, value in out.items()} for index, out in own[kind]}

    def _forget(self, index: int) -> None:
        for place, outputs in self._session.output_dict_per_obj.items():
            tracked = outputs["non_cond_frame_outputs"]
            for old in [other for other in tracked if abs(other - index) > self._reach]:
                del tracked[old]
                self._session.frames_tracked_per_obj[place].pop(old, None)
            for kept in (*tracked.values(), *outputs["cond_frame_outputs"].values()):
                kept.pop("high_res_masks", None)  # the memory is made of it by now
