"""A tiny SAM 2 with random weights."""

from pathlib import Path

SIDE = 128  # pixels that the tiny networks see
WIDE = 128  # channels: twice those of a memory, 64, which transformers fixes


def write_tiny_sam2(path: Path) -> Path:
    """Write a SAM 2 into a folder, as transformers saves it."""
    import torch
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=8, image_size=[SIDE, SIDE], blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 4, 4, 4], global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4], num_query_pool_stages=3,
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=WIDE,
        backbone_feature_sizes=[[SIDE // step] * 2 for step in (4, 8, 16)],
    )  # fmt: skip
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": WIDE, "image_size": SIDE, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": WIDE, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        image_size=SIDE, memory_attention_hidden_size=WIDE, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
        memory_encoder_hidden_size=WIDE, mask_downsampler_embed_dim=WIDE, memory_fuser_embed_dim=WIDE,
        memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1,
    )  # fmt: skip
    torch.manual_seed(3)
    model = Sam2VideoModel(config)
    for name, value in model.named_parameters():
        # What is initialised to zero would hide whether it is used.
        if value.abs().max() == 0:
            torch.nn.init.normal_(value, std=0.3)
        if name.startswith("mask_decoder.pred_obj_score_head") and name.endswith("bias"):
            torch.nn.init.constant_(value, 5)  # objects are there
    model.save_pretrained(path)
    return path
