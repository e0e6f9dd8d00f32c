"""Names of the metrics, in the order of the protocol (2.1)."""

IMAGE_METRICS = ("image_auroc", "image_f1max", "image_pg2", "image_pb2", "image_pg2_strict", "image_pb2_strict")
PIXEL_METRICS = ("pixel_auroc", "pixel_aupro", "pixel_f1max")
