"""The networks that the benchmarks measure, each at the input sizes it is used at."""

NETWORKS = (  # variant, input size
    ("unet_64x400", (64, 400)),
    ("unet_128x800", (128, 800)),
    ("modified_unet", (64, 512)),
    ("modified_unet", (256, 1600)),
)
